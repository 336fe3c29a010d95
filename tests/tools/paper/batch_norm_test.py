# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from tools.paper import batch_norm, batch_norm_command


def test_the_standard_error_is_that_of_a_difference_of_means():
  pipelined, plain = (0.9, 0.94, 0.95), (0.91, 0.97)
  better, error = batch_norm.difference(pipelined, plain)
  assert better == pytest.approx(np.mean(pipelined) - np.mean(plain))
  assert error == pytest.approx(
    np.sqrt(np.var(pipelined, ddof=1) / 3 + np.var(plain, ddof=1) / 2)
  )


@pytest.mark.parametrize(
  ('values', 'more'),
  [((0.9, 0.91, 0.92, 0.93), 0), ((0.9, 0.93, 0.9001, 0.9301), 1)],
)
def test_noise_is_two_standard_errors(values, more, monkeypatch, capsys):
  found = iter(values)
  monkeypatch.setattr(batch_norm, 'accuracy', lambda *unused: next(found))
  # Each kind has two runs, by turns.
  assert batch_norm_command.main(['--runs=2']) == more
  text = 'more than noise' if more else 'within noise'
  assert text in capsys.readouterr().out


def test_both_kinds_see_the_same_images_and_take_the_same_steps():
  piped = batch_norm._pipelined_params('Train', 7, 100)
  plain = batch_norm._plain_params('Train', 7, 100)
  m = batch_norm.NUM_MICRO_BATCHES
  assert piped.input.batch_size == m * plain.input.batch_size
  assert piped.input.random_seed == plain.input.random_seed == 7
  assert plain.task.train.max_steps == m * piped.task.train.max_steps == 100 * m
  assert plain.task.train.optimizer.accum_steps == m
  a, b = (p.task.train.lr_schedule for p in (piped, plain))
  assert b.warmup_steps == m * a.warmup_steps


@pytest.mark.parametrize('wrong', [['--runs=1'], ['--steps=0']])
def test_a_mistake_is_said(wrong, refused):
  assert wrong[0].partition('=')[0] in refused(batch_norm_command.main, wrong)
