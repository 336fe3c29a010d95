# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of GPipe's schedule."""

from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind

F, B = TaskKind.FORWARD, TaskKind.BACKWARD


@pytest.mark.parametrize('num_cells', range(1, 9))
@pytest.mark.parametrize('num_micro_batches', [1, 2, 3, 4, 8, 16, 33])
def test_each_device_fills_then_drains(num_cells, num_micro_batches):
  schedule = schedules.make_schedule(
    'gpipe', range(num_cells), num_micro_batches
  )
  for k, tasks in enumerate(schedule.device_tasks):
    assert list(tasks) == [
      Task(kind, k, m) for kind in (F, B) for m in range(num_micro_batches)
    ]


@pytest.mark.parametrize('duration', [1, 7, Fraction(1, 3)])
def test_bubble_is_exact(duration):
  for num_cells in [*range(1, 10), 32]:
    for num_micro_batches in [*range(1, 10), 32, 100]:
      timeline = schedules.simulate(
        schedules.make_schedule('gpipe', range(num_cells), num_micro_batches),
        duration,
      )
      total = num_micro_batches + num_cells - 1
      assert timeline.bubble == Fraction(num_cells - 1, total)
      assert timeline.step_time == 2 * total * duration


def test_every_cell_stashes_all_micro_batches():
  for cell_devices in (range(4), [0, 1, 0, 1], [0, 0, 0], [1, 0, 2, 2]):
    for num_micro_batches in (1, 2, 7):
      timeline = schedules.simulate(
        schedules.make_schedule('gpipe', cell_devices, num_micro_batches)
      )
      assert set(timeline.peak_stash) == {num_micro_batches}


def test_all_forwards_come_before_all_backwards_in_order():
  for cell_devices in (range(4), [0, 1, 0, 1], [0, 0, 1, 1], [2, 0, 1, 0]):
    schedule = schedules.make_schedule('gpipe', cell_devices, 5)
    kinds = [task.kind for task in schedule.in_order()]
    assert kinds == [F] * 20 + [B] * 20
