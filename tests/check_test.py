# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import types

import child_process
import local_training
import pytest

from lingvo_gpipe import check


def test_a_model_that_is_the_same_is_status_0():
  result = child_process.run(
    'check', '--model=stand_in_pipeline.Small', '--micro_batches=3'
  )
  assert result.returncode == 0, result.stdout + result.stderr
  assert result.stderr == ''
  assert 'Ran K = 2, M = 3.' in result.stdout
  assert (
    'No difference from the plain layers in (K = 1, M = 1), (K = 2, M = 1), '
    '(K = 1, M = 3), (K = 2, M = 3)'
  ) in result.stdout


def test_a_model_that_differs_is_status_1_with_the_report(monkeypatch, capsys):
  report = types.SimpleNamespace(same=False, to_text=lambda: 'Why: a sum.')
  monkeypatch.setattr(check, 'check_model', lambda *args: report)
  argv = ['check', '--model=stand_in_pipeline.Small']
  assert local_training.in_process(check.main, argv) == 1
  assert capsys.readouterr().out.endswith('\nWhy: a sum.\n')


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--model=stand_in_pipeline.Smal'], 'Nearest: stand_in_pipeline.Small'),
    (['--model=stand_in_pipeline.Small', '--devices=0'], 'flag --devices=0'),
    (['--model=stand_in_pipeline.Small', '--devices=9'], 'cut into 9 cells'),
  ],
)
def test_a_mistake_is_one_line_and_status_2(flags, message, monkeypatch, capfd):
  argv = ['check', *flags]
  _, err = local_training.refused(check.main, argv, capfd)
  assert message in err
