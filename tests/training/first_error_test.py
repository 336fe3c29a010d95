# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""An assertion fails in cell 0, while device 0 waits for gradients."""

import re
import subprocess
import sys

import child_process


def test_the_trainer_tells_the_assertion_and_not_what_it_cancelled(tmp_path):
  ended = subprocess.run(
    [
      *(sys.executable, '-m', 'lingvo_gpipe.trainer'),
      '--model=stand_in_pipeline.SmallBounded',
      f'--logdir={tmp_path}',
      '--run_locally=cpu',
      '--worker_split_size=2',
    ],
    env=child_process.environment(TF_CPP_MIN_LOG_LEVEL='0'),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  assert ended.returncode == 1
  assert re.search(
    r'^trainer: InvalidArgumentError: assertion failed: \[too bright\] \[\S+\] '
    r'\[in cell cell_0, layer \S*bounded, micro-batch\] \[0\]$',
    ended.stdout,
    re.MULTILINE,
  ), ended.stdout
  # What the session itself said.
  assert 'RecvAsync is cancelled' in (tmp_path / 'log.txt').read_text()
