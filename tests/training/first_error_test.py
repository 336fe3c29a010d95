# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""An assertion fails in cell 0, while device 0 waits for gradients."""

import re

import child_process


def test_the_trainer_tells_the_assertion_and_not_what_it_cancelled(tmp_path):
  process = child_process.train(
    'SmallBounded', tmp_path, TF_CPP_MIN_LOG_LEVEL='0'
  )
  output = process.communicate()[0]
  assert process.returncode == 1
  assert re.search(
    r'^trainer: InvalidArgumentError: assertion failed: \[too bright\] \[\S+\] '
    r'\[in cell cell_0, layer \S*bounded, micro-batch\] \[0\]$',
    output,
    re.MULTILINE,
  ), output
  # What the session itself said.
  assert 'RecvAsync is cancelled' in (tmp_path / 'log.txt').read_text()
