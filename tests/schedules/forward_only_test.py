# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the forward-only schedule."""

from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_only_forwards_run_under_any_name(name):
  schedule = schedules.make_schedule(name, range(3), 4, forward_only=True)
  assert schedule.name == 'forward_only'
  assert schedule.forward_only
  for k, tasks in enumerate(schedule.device_tasks):
    assert list(tasks) == [Task(TaskKind.FORWARD, k, m) for m in range(4)]


def test_bubble_is_exact_and_nothing_is_stashed():
  for num_cells in range(1, 8):
    for num_micro_batches in (1, 2, 5, 12):
      timeline = schedules.simulate(
        schedules.make_schedule(
          'gpipe', range(num_cells), num_micro_batches, forward_only=True
        )
      )
      total = num_micro_batches + num_cells - 1
      assert timeline.step_time == total
      assert timeline.bubble == Fraction(num_cells - 1, total)
      assert timeline.peak_stash == (0,) * num_cells
