# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The command, as a user runs it."""

import subprocess
import sys

import child_process
import pytest


def _check(*args):
  """Runs the command; a model of the tests is importable."""
  return subprocess.run(
    [sys.executable, '-m', 'lingvo_gpipe.check', *args],
    env=child_process.environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def test_a_model_that_is_the_same_is_status_0():
  result = _check('--model=stand_in_pipeline.Small', '--micro_batches=3')
  assert result.returncode == 0, result.stdout + result.stderr
  assert result.stderr == ''
  assert 'Ran K = 2, M = 3.' in result.stdout
  assert (
    'No difference from the plain layers in (K = 1, M = 1), (K = 2, M = 1), '
    '(K = 1, M = 3), (K = 2, M = 3)'
  ) in result.stdout


def test_a_model_that_differs_is_status_1_and_says_why():
  result = _check('--model=stand_in_pipeline.SmallSummed')
  assert result.returncode == 1, result.stdout + result.stderr
  assert result.stderr == ''
  assert "metric 'loss': its value is a sum" in result.stdout
  assert '| gradient of first |' in result.stdout
  assert '75%' in result.stdout


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ([], '--model: give one; it has no default.'),
    (['--model=stand_in_pipeline.Smal'], 'Nearest: stand_in_pipeline.Small'),
    (['--model=stand_in_pipeline.Small', '--devices=0'], 'flag --devices=0'),
    (['--model=stand_in_pipeline.Small', '--devices=9'], 'cut into 9 cells'),
  ],
)
def test_a_mistake_is_one_line_and_status_2(flags, message):
  result = _check(*flags)
  assert result.returncode == 2, result.stdout + result.stderr
  assert result.stderr.count('\n') == 1
  assert message in result.stderr
