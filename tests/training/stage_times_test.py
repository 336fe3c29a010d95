# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import stage_times


def test_each_part_is_timed_and_the_last_line_in_a_log_is_read_back():
  now = 100.0
  listener = stage_times.StageListener(5.0, clock=lambda: now)
  assert listener.times() is None  # No step has run.
  now += 1
  listener.trainer_built(None)
  for step, seconds in enumerate([4, 1, 3]):
    now += 0.5
    listener.before_step(step)
    now += seconds
    listener.after_step(step + 1, {})
  times = listener.times()
  assert (times.loading, times.graph, times.first_step) == (5, 1, 4)
  assert (times.more_steps, times.median_step, times.total) == (2, 2, 15.5)
  assert times.needed == 5 + 1 + 4 + 2 * 2
  assert 2**20 < times.loaded_memory <= times.peak_memory
  other = times.to_text().replace('5.0', '7.75')
  log = f'I1124 x.py:1] {other}\nchatter\nI1124 x.py:1] {times.to_text()}\n'
  assert stage_times.from_text(log) == times


def test_a_log_without_a_line_is_an_error():
  with pytest.raises(ValueError, match='no times'):
    stage_times.from_text('chatter')
