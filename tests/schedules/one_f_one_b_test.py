# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the 1F1B schedule."""

from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind
from lingvo_gpipe.schedules.one_f_one_b import in_flight_limits

F, B = TaskKind.FORWARD, TaskKind.BACKWARD


def _textbook_row(num_cells, num_micro_batches, k):
  """Warm-up forwards, then pairs of forward and backward, then backwards."""
  warm_up = min(num_micro_batches, num_cells - 1 - k)
  row = [Task(F, k, m) for m in range(warm_up)]
  for m in range(warm_up, num_micro_batches):
    row += [Task(F, k, m), Task(B, k, m - warm_up)]
  left = range(num_micro_batches - warm_up, num_micro_batches)
  return row + [Task(B, k, m) for m in left]


@pytest.mark.parametrize('num_cells', [*range(1, 9), 16])
@pytest.mark.parametrize('num_micro_batches', [1, 2, 3, 4, 8, 16, 33])
def test_one_cell_a_device_gives_the_textbook_schedule(
  num_cells, num_micro_batches
):
  schedule = schedules.make_schedule(
    '1f1b', range(num_cells), num_micro_batches
  )
  for k, tasks in enumerate(schedule.device_tasks):
    assert list(tasks) == _textbook_row(num_cells, num_micro_batches, k)


def test_peak_stash_is_what_remains_of_the_pipeline():
  for num_cells in [*range(1, 10), 32]:
    for num_micro_batches in [*range(1, 10), 32, 64]:
      timeline = schedules.simulate(
        schedules.make_schedule('1f1b', range(num_cells), num_micro_batches)
      )
      assert timeline.peak_stash == tuple(
        min(num_micro_batches, num_cells - k) for k in range(num_cells)
      )


@pytest.mark.parametrize('backward', [1, 2, 3])
def test_takes_as_long_as_gpipe(backward):
  for num_cells in range(1, 7):
    for num_micro_batches in (1, 2, 5, 12):
      timeline = schedules.simulate(
        schedules.make_schedule('1f1b', range(num_cells), num_micro_batches),
        lambda task: 1 if task.kind == F else backward,
      )
      total = num_micro_batches + num_cells - 1
      assert timeline.step_time == (1 + backward) * total
      assert timeline.bubble == Fraction(num_cells - 1, total)


def test_stash_stays_within_the_limits_in_any_arrangement():
  for cell_devices in (
    [0, 1, 0, 1],
    [0, 0, 1, 1],
    [0, 1, 1, 0],
    [3, 1, 0, 2],
    [0, 1, 2, 0, 1, 2, 0, 1, 2],
    [0, 0, 0, 1],
  ):
    for num_micro_batches in (1, 2, 3, 16):
      limits = in_flight_limits(cell_devices, num_micro_batches)
      stash = schedules.simulate(
        schedules.make_schedule('1f1b', cell_devices, num_micro_batches)
      ).peak_stash
      num_cells = len(cell_devices)
      for k in range(num_cells):
        assert 1 <= stash[k] <= limits[k]
        assert limits[k] <= min(num_micro_batches, num_cells - k)


def test_limits_count_stretches_of_cells_on_one_device():
  assert in_flight_limits(range(4), 8) == [4, 3, 2, 1]
  assert in_flight_limits(range(4), 3) == [3, 3, 2, 1]
  assert in_flight_limits([0, 0, 1, 1], 8) == [2, 2, 1, 1]
  assert in_flight_limits([0, 1, 0, 1], 8) == [4, 3, 2, 1]
  assert in_flight_limits([0, 0, 0], 8) == [1, 1, 1]


def test_blocks_of_cells_run_as_one_cell_would():
  whole = schedules.make_schedule('1f1b', range(3), 7)
  halves = schedules.make_schedule('1f1b', [0, 0, 1, 1, 2, 2], 7)
  assert (
    schedules.simulate(whole, 2).step_time
    == schedules.simulate(halves, 1).step_time
  )
  for device in range(3):
    rows = [
      [(task.kind, task.micro_batch) for task in schedule.device_tasks[device]]
      for schedule in (whole, halves)
    ]
    assert [entry for entry in rows[0] for _ in range(2)] == rows[1]
