# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

from lingvo_gpipe.training import stage_times

TIMES = stage_times.StageTimes(
  loading=5.25,
  graph=3.0,
  first_step=2.5,
  more_steps=59,
  median_step=0.125,
  total=20.0,
  loaded_memory=2**20 * 400.5,
  peak_memory=2**20 * 812.0,
)


def test_the_last_line_in_a_log_is_read_back():
  other = TIMES.to_text().replace('5.25', '7.75')
  log = f'I1124 x.py:1] {other}\nchatter\nI1124 x.py:1] {TIMES.to_text()}\n'
  assert stage_times.from_text(log) == TIMES


def test_a_log_without_a_line_is_an_error():
  with pytest.raises(ValueError, match='no times'):
    stage_times.from_text('chatter')


def test_what_is_needed_leaves_out_all_else():
  assert TIMES.needed == 5.25 + 3.0 + 2.5 + 59 * 0.125


def test_each_part_is_timed():
  now = itertools.count(100.0)  # A second passes at each look at the clock.
  memory = iter([1000, 5000])
  listener = stage_times.StageListener(
    5.0, clock=lambda: next(now), memory=lambda: next(memory)
  )
  listener.trainer_built(None)
  for step, seconds in enumerate([4, 1, 3]):
    listener.before_step(step)
    for _ in range(seconds - 1):
      next(now)
    listener.after_step(step + 1, {})
  # Loaded at 100, built at 101, steps from 102 on, the end at 113.
  assert listener.times() == stage_times.StageTimes(
    loading=5.0,
    graph=1.0,
    first_step=4.0,
    more_steps=2,
    median_step=2.0,
    total=18.0,
    loaded_memory=1000,
    peak_memory=5000,
  )


def test_without_a_step_there_is_nothing_to_tell():
  assert stage_times.StageListener(5.0).times() is None
