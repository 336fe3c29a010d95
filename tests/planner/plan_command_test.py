# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the program that prints how a model would be cut."""

import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.planner import plan_command

_DIGITS = 'image.digits.AmoebaNetD'


def test_prints_a_table_for_each_number_of_cells(capsys):
  assert plan_command.main([_DIGITS, '--num_partitions', '2,3']) == 0
  text = capsys.readouterr().out
  assert 'K = 2, cut by given, 7 layers' in text
  assert 'K = 3' in text
  assert 'stem .. reduction_0 (3)' in text
  assert '1f1b, M = 8, recompute always: imbalance' in text
  assert 'the peak memory of this process' in text


def test_flags_win_over_the_models_params(capsys):
  argv = [_DIGITS, '--num_partitions=2', '--balance=params']
  argv += ['--num_micro_batches=5', '--schedule=gpipe']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  assert 'K = 2, cut by params' in text
  assert 'gpipe, M = 5' in text


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['image.digits.AmoebaNet'], 'Nearest: image.digits.AmoebaNet'),
    ([_DIGITS, '--num_partitions=2,x'], "--num_partitions '2,x' is no list"),
    ([_DIGITS, '--num_partitions=9'], '7 layers cannot be cut into 9 cells'),
    ([_DIGITS, '--balance=flop'], "balance is 'flop'"),
    ([_DIGITS, '--device_memory=1GiB'], 'without input_shapes'),
  ],
)
def test_mistakes_end_with_a_line_and_status_2(argv, message, capsys):
  assert plan_command.main(argv) == 2
  assert message in capsys.readouterr().err


def test_tasks_say_the_shapes_of_side_inputs_and_targets(capsys):
  assert (
    plan_command.main(['lm.paper.Transformer13', '--num_partitions=3']) == 0
  )
  text = capsys.readouterr().out
  assert 'K = 3, cut by flops, 15 layers' in text
