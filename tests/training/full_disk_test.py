# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training on a disk that is really full: a tmpfs of 1 MiB, of its own."""

import re
import shlex
import subprocess
import sys

import child_process
import pytest


def _on_small_disk(directory, *command):
  """Runs a command that sees an empty disk of 1 MiB at a directory.

  The disk is there for the command alone, and goes when it ends.
  """
  mount = f'mount -t tmpfs -o size=1m none {shlex.quote(str(directory))}'
  return subprocess.run(
    [
      *('unshare', '--map-root-user', '--mount', 'sh', '-c'),
      f'{mount} && exec {shlex.join(command)}',
    ],
    env=child_process.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )


def test_training_goes_on_without_room_and_only_the_last_checkpoint_is_missed(
  tmp_path,
):
  try:
    if _on_small_disk(tmp_path, 'true').returncode:
      pytest.skip('no disk can be mounted here')
  except FileNotFoundError:
    pytest.skip('there is no unshare (util-linux)')
  ended = _on_small_disk(
    tmp_path,
    *(sys.executable, '-m', 'lingvo_gpipe.trainer'),
    '--model=stand_in_pipeline.Small',
    f'--logdir={tmp_path}/log',
    '--run_locally=cpu',
    '--worker_split_size=2',
    '--max_steps=1000',
  )
  output = ended.stdout
  assert ended.returncode == 1, output
  assert re.search(
    r'^Warning: the checkpoint of step \d+ could not be written .*; No space '
    r'left on device\); .* Training continues; the next try is in 60 s\.$',
    output,
    re.MULTILINE,
  ), output
  assert re.search(
    r'^Warning: summaries could not be written \(.*; No space left on device\)',
    output,
    re.MULTILINE,
  ), output
  assert re.search(
    r'^trainer: CheckpointError: the checkpoint of step 1000 could not be '
    r'written .*; No space left on device\); .* Make room and start the ',
    output,
    re.MULTILINE,
  ), output
  assert 'Traceback' not in output
