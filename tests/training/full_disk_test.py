# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training on a disk that is really full: a tmpfs of 1 MiB, of its own."""

import re
import shlex
import subprocess

import child_process
import pytest


def test_without_room_only_the_last_checkpoint_is_missed(tmp_path):
  mount = f'mount -t tmpfs -o size=1m none {shlex.quote(str(tmp_path))}'
  # The disk is there for the command alone, and goes when it ends.
  on_small_disk = (
    *('unshare', '--map-root-user', '--mount', 'sh', '-c'),
    f'{mount} && exec "$@"',
    'sh',
  )
  try:
    if subprocess.run([*on_small_disk, 'true'], check=False).returncode:
      pytest.skip('no disk can be mounted here')
  except FileNotFoundError:
    pytest.skip('there is no unshare (util-linux)')
  ended = child_process.train(
    'Small', tmp_path / 'log', '--max_steps=1000', prefix=on_small_disk
  )
  output = ended.communicate()[0]
  assert ended.returncode == 1, output
  full = 'No space left on device\\)'
  for line in (
    rf'Warning: the checkpoint of step \d+ could not be written .*; {full}; .* '
    r'Training continues; the next try is in 60 s\.$',
    rf'Warning: summaries could not be written \(.*; {full}',
    r'trainer: CheckpointError: the checkpoint of step 1000 could not be '
    rf'written .*; {full}; .* Make room and start the ',
  ):
    assert re.search(f'^{line}', output, re.MULTILINE), output
  assert 'Traceback' not in output
