# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules of pipelines whose first cells are not trained."""

import dataclasses
import itertools

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import RECOMPUTE_POLICIES, SCHEDULE_NAMES, TaskKind

F, B = TaskKind.FORWARD, TaskKind.BACKWARD

_DEVICES = (
  [0],
  [0, 1, 2],
  [0, 1, 2, 3],
  [0, 1, 0, 1],
  [0, 0, 1, 1],
  [1, 0, 2, 0, 1],
)


def _cases():
  """(cell_devices, M, first_backward) in many combinations."""
  for devices, num_micro_batches in itertools.product(_DEVICES, (1, 2, 3, 8)):
    for first in range(len(devices)):
      yield devices, num_micro_batches, first


def _tasks(schedule):
  return [task for tasks in schedule.device_tasks for task in tasks]


@pytest.mark.parametrize('name', SCHEDULE_NAMES)
def test_cells_before_the_first_backward_run_forward_only(name):
  for devices, num_micro_batches, first in _cases():
    schedule = schedules.make_schedule(
      name, devices, num_micro_batches, first_backward=first
    )
    schedules.validate(schedule)
    tasks = _tasks(schedule)
    assert {t.cell for t in tasks if t.kind == F} == set(range(len(devices)))
    assert {t.cell for t in tasks if t.kind == B} == set(
      range(first, len(devices))
    )


@pytest.mark.parametrize('name', SCHEDULE_NAMES)
def test_they_stash_and_recompute_nothing(name):
  for devices, num_micro_batches, first in _cases():
    schedule = schedules.make_schedule(
      name, devices, num_micro_batches, first_backward=first
    )
    peaks = schedules.simulate(schedule).peak_stash
    assert not any(peaks[:first]) and all(peaks[first:])
    limits = schedules.in_flight_limits(name, devices, num_micro_batches)
    assert all(p <= limit for p, limit in zip(peaks, limits, strict=True))
    for policy in RECOMPUTE_POLICIES:
      again = schedules.recomputed(schedule, policy)
      assert not any(again[:first])
      whole = schedules.recomputed(
        schedules.make_schedule(name, devices, num_micro_batches), policy
      )
      assert again[first:-1] == whole[first:-1]


@pytest.mark.parametrize('name', SCHEDULE_NAMES)
def test_a_step_never_takes_longer_than_with_all_backwards(name):
  for devices, num_micro_batches, first in _cases():
    times = [
      schedules.simulate(
        schedules.make_schedule(
          name, devices, num_micro_batches, first_backward=first_backward
        )
      ).step_time
      for first_backward in (first, 0)
    ]
    assert times[0] <= times[1]


def test_a_drawing():
  schedule = schedules.make_schedule('1f1b', range(3), 4, first_backward=1)
  assert schedules.grid(schedule) == (
    '1f1b: cells 3, devices 3, micro-batches 4 (F forward, B backward)\n'
    '          0  1  2  3  4  5  6  7  8  9 10\n'
    'device 0 F0 F1 F2 F3  .  .  .  .  .  .  .\n'
    'device 1  . F0 F1  . B0 F2 B1 F3 B2  . B3\n'
    'device 2  .  . F0 B0 F1 B1 F2 B2 F3 B3  .'
  )


@pytest.mark.parametrize('name', SCHEDULE_NAMES)
def test_nothing_trained_is_forward_only(name):
  assert schedules.make_schedule(
    name, [0, 1], 3, first_backward=2
  ) == schedules.make_schedule(name, [0, 1], 3, forward_only=True)


@pytest.mark.parametrize('first', [-1, 3])
def test_a_cell_that_does_not_exist_is_refused(first):
  with pytest.raises(ValueError, match=f'first_backward is {first}; .* 2'):
    schedules.make_schedule('gpipe', [0, 1], 3, first_backward=first)


def test_validation_knows_who_has_backwards():
  schedule = schedules.make_schedule('gpipe', range(3), 1, first_backward=1)
  later = dataclasses.replace(schedule, first_backward=2)
  with pytest.raises(
    schedules.ScheduleError, match=r'B1\.0 is a task of a cell that runs forw'
  ):
    schedules.validate(later)
  earlier = dataclasses.replace(schedule, first_backward=0)
  with pytest.raises(schedules.ScheduleError, match=r'Device 0 lacks B0\.0'):
    schedules.validate(earlier)
  beyond = dataclasses.replace(schedule, first_backward=3)
  with pytest.raises(schedules.ScheduleError, match='first_backward is 3'):
    schedules.validate(beyond)
