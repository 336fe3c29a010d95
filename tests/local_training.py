# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trainings over two CPU devices: in this process, and as commands."""

import contextlib
import os
import pathlib
import subprocess
import sys

import lingvo.compat as tf
from absl.testing import flagsaver
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cluster
from lingvo_gpipe.training import (
  listeners,
  model_lookup,
  runner_manager,
)

FLAGS = tf.flags.FLAGS
TESTS = pathlib.Path(__file__).parent
# For processes: models of the tests can be imported.
ENVIRONMENT = {
  **os.environ,
  'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS)]),
}


@contextlib.contextmanager
def settings(logdir, **flags):
  """Inside, flags and Lingvo's cluster are those of a run in this process."""
  before, eager = cluster_factory.Cluster, py_utils.IsEagerMode()
  saved = flagsaver.save_flag_values()
  for name, value in {
    'run_locally': 'cpu',
    'worker_split_size': 2,
    'logdir': str(logdir),
    **flags,
  }.items():
    FLAGS[name].value = value
  cluster.install()
  py_utils.SetEagerMode(False, test_mode=True)
  try:
    yield
  finally:
    flagsaver.restore_flag_values(saved)
    cluster_factory.SetCluster(before)
    py_utils.SetEagerMode(eager, test_mode=True)


class Losses(listeners.StepListener):
  """Keeps the losses, by step."""

  def __init__(self):
    self.losses = {}

  def after_step(self, step, metrics):
    self.losses[step] = float(metrics['loss'][0])


def manager(model, trial=None):
  """The manager of a model of the tests, in `settings`."""
  found = runner_manager.RunnerManager(model_lookup.find_model(model), trial)
  found.MaybeConfigRunLocally()
  return found


def train(model, *more_listeners):
  """Trains in `settings`; returns the runner and {step: loss}."""
  losses = Losses()
  the_manager = manager(
    model, listeners.ObservingTrial([losses, *more_listeners])
  )
  (runner,) = the_manager.CreateRunners(['trainer_client'], FLAGS.logdir)
  the_manager.StartRunners([runner])
  return runner, losses.losses


def start(module, *args, prefix=()):
  """Starts a command of lingvo_gpipe; both outputs go to one pipe."""
  return subprocess.Popen(
    [*prefix, sys.executable, '-m', f'lingvo_gpipe.{module}', *args],
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(module, *args):
  """Runs a command of lingvo_gpipe to its end."""
  return subprocess.run(
    [sys.executable, '-m', f'lingvo_gpipe.{module}', *args],
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
