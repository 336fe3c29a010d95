# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess
import sys

_HELPERS = pathlib.Path(__file__).absolute().parent
ROOT = _HELPERS.parents[1]


def environment(**variables):
  """Variables with which a program finds this package and tests' models."""
  path = os.pathsep.join(map(str, [ROOT, _HELPERS]))
  return {**os.environ, 'PYTHONPATH': path, **variables}


def start(module, *args, prefix=(), **variables):
  """Starts a command of lingvo_gpipe; both outputs go to one pipe."""
  return subprocess.Popen(
    [*prefix, sys.executable, '-m', f'lingvo_gpipe.{module}', *args],
    env=environment(**variables),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def train(model, logdir, *args, **kwargs):
  """Starts a training of a stand-in pipeline over two CPU devices."""
  flags = [f'--model=stand_in_pipeline.{model}', f'--logdir={logdir}']
  flags += ['--run_locally=cpu', '--worker_split_size=2']
  return start('trainer', *flags, *args, **kwargs)


def run(module, *args):
  """Runs a command of lingvo_gpipe to its end, its outputs apart."""
  return subprocess.run(
    [sys.executable, '-m', f'lingvo_gpipe.{module}', *args],
    env=environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
