# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the simulator."""

import itertools
import random
from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import ScheduleError, Task, TaskKind

F, B, W = TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.WEIGHT_GRADIENT


def test_times_of_a_small_pipeline_by_hand():
  # Forwards take 1 and 2, backwards 3 and 4, the boundary 1.
  #
  #          0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17
  # device 0 F0 F1  .  .  .  .  .  .  . B0 -- --  .  .  . B1 -- --
  # device 1  .  . F0 -- B0 -- -- -- F1 -- B1 -- -- --  .  .  .  .
  timeline = schedules.simulate(
    schedules.make_schedule('1f1b', range(2), 2),
    {(F, 0): 1, (F, 1): 2, (B, 0): 3, (B, 1): 4},
    [1],
  )
  assert {str(task): time for task, time in timeline.start.items()} == {
    'F0.0': 0,
    'F0.1': 1,
    'F1.0': 2,
    'B1.0': 4,
    'F1.1': 8,
    'B0.0': 9,
    'B1.1': 10,
    'B0.1': 15,
  }
  assert timeline.end[Task(B, 0, 1)] == timeline.step_time == 18
  assert timeline.device_busy == (8, 12)
  assert timeline.bubble == Fraction(36 - 20, 36)
  path = ' '.join(map(str, timeline.critical_path))
  assert path == 'F0.0 F1.0 B1.0 F1.1 B1.1 B0.1'


def _random_case(rng):
  num_cells = rng.randint(1, 7)
  schedule = schedules.make_schedule(
    rng.choice(schedules.PLAIN_NAMES),
    [rng.randrange(4) for _ in range(num_cells)],
    rng.randint(1, 7),
    forward_only=rng.random() < 0.2,
  )
  durations = {
    (kind, k): Fraction(rng.randint(0, 30), rng.randint(1, 7))
    for kind in TaskKind
    for k in range(num_cells)
  }
  transfers = [rng.randint(0, 9) for _ in range(num_cells - 1)]
  return schedule, durations, transfers


def _earliest_starts(schedule, durations, transfers):
  """The least solution of the rules, by relaxation until nothing moves."""
  start = {task: 0 for row in schedule.device_tasks for task in row}
  edges = []
  for row in schedule.device_tasks:
    edges += [(a, b, 0) for a, b in itertools.pairwise(row)]
  for task in start:
    for needed in schedule.dependencies(task):
      low, high = sorted((needed.cell, task.cell))
      here, there = (schedule.cell_devices[k] for k in (low, high))
      edges.append((needed, task, 0 if here == there else transfers[low]))
  moved = True
  while moved:
    moved = False
    for before, after, delay in edges:
      time = start[before] + durations[before.kind, before.cell] + delay
      if time > start[after]:
        start[after] = time
        moved = True
  return start


def _stashed_at(timeline, cell, time):
  """Micro-batches with forward start <= time < backward end."""
  return sum(
    timeline.start[task] <= time < timeline.end[Task(B, cell, task.micro_batch)]
    for task in timeline.start
    if task.kind == F and task.cell == cell
  )


@pytest.mark.parametrize('seed', range(4))
def test_what_must_hold_of_any_schedule(seed):
  rng = random.Random(seed)
  for _ in range(40):
    schedule, durations, transfers = _random_case(rng)
    timeline = schedules.simulate(schedule, durations, transfers)
    # Tasks start as early as the rules allow.
    assert timeline.start == _earliest_starts(schedule, durations, transfers)
    for task, start in timeline.start.items():
      assert timeline.end[task] == start + durations[task.kind, task.cell]
    _check_critical_path(timeline, durations, transfers)
    # Busy and idle time add up.
    num_used = len(set(schedule.cell_devices))
    if timeline.step_time:
      assert sum(timeline.device_busy) == (
        (1 - timeline.bubble) * num_used * timeline.step_time
      )
    assert 0 <= timeline.bubble < 1
    if not schedule.forward_only and all(durations.values()):
      _check_stash(timeline)


def _check_critical_path(timeline, durations, transfers):
  schedule, path = timeline.schedule, timeline.critical_path
  total = sum(durations[task.kind, task.cell] for task in path)
  for before, after in itertools.pairwise(path):
    low, high = sorted((before.cell, after.cell))
    devices = schedule.cell_devices
    if before in schedule.dependencies(after):
      if devices[low] != devices[high]:
        total += transfers[low]
    else:
      assert devices[low] == devices[high]
  assert total == timeline.step_time
  assert timeline.start[path[0]] == 0


def _check_stash(timeline):
  cells = range(timeline.schedule.num_cells)
  counts = [
    [_stashed_at(timeline, k, time) for k in cells]
    for time in sorted(set(timeline.start.values()))
  ]
  assert timeline.peak_stash == tuple(
    max(at[k] for at in counts) for k in cells
  )
  for device, peak in enumerate(timeline.device_peak_stash):
    mine = [k for k in cells if timeline.schedule.cell_devices[k] == device]
    assert peak == max(sum(at[k] for k in mine) for at in counts)


def test_exact_numbers_stay_exact_and_floats_stay_floats():
  schedule = schedules.make_schedule('gpipe', range(3), 4)
  exact = schedules.simulate(schedule, Fraction(1, 10), Fraction(1, 30))
  assert exact.step_time == 2 * 6 * Fraction(1, 10) + 4 * Fraction(1, 30)
  assert isinstance(exact.bubble, Fraction)
  rounded = schedules.simulate(schedule, 0.1, 1 / 30)
  assert isinstance(rounded.step_time, float)
  assert rounded.step_time == pytest.approx(float(exact.step_time))
  assert rounded.bubble == pytest.approx(float(exact.bubble))


def test_durations_may_be_a_function_of_the_task():
  schedule = schedules.make_schedule('gpipe', range(1), 3)
  timeline = schedules.simulate(schedule, lambda task: 1 + task.micro_batch)
  assert timeline.step_time == 2 * (1 + 2 + 3)


def test_a_boundary_within_a_device_takes_no_time():
  schedule = schedules.make_schedule('gpipe', [0, 0, 1], 1)
  assert schedules.simulate(schedule, 1, 10).step_time == 6 + 2 * 10


def test_transfers_run_beside_tasks():
  # Device 0 goes on while its result travels.
  schedule = schedules.make_schedule('gpipe', range(2), 3, forward_only=True)
  assert schedules.simulate(schedule, 1, 5).step_time == 1 + 5 + 3


def test_a_device_without_cells_does_not_count_as_idle():
  schedule = schedules.make_schedule('gpipe', [0, 2], 1)
  assert schedules.simulate(schedule).bubble == Fraction(1, 2)


def test_weight_gradients_hold_the_stash():
  row = [Task(F, 0, 0), Task(F, 0, 1), Task(B, 0, 0), Task(B, 0, 1)]
  late = [*row, Task(W, 0, 0), Task(W, 0, 1)]
  schedule = schedules.Schedule('mine', 2, (0,), (tuple(late),))
  timeline = schedules.simulate(schedule, {(F, 0): 1, (B, 0): 1, (W, 0): 5})
  assert timeline.step_time == 14
  assert timeline.peak_stash == (2,)


@pytest.mark.parametrize(
  'durations, transfers, words',
  [
    ({(F, 0): 1, (F, 1): 1, (B, 1): 1}, None, 'BACKWARD, 0'),
    (-1, None, 'F0.0 is -1'),
    (float('nan'), None, 'F0.0 is nan'),
    (float('inf'), None, 'F0.0 is inf'),
    (1, [1, 2], 'has 2 entries; 2 cells have 1 boundaries'),
    (1, -2, 'from cell 0 to 1 is -2'),
  ],
)
def test_bad_times_are_named(durations, transfers, words):
  schedule = schedules.make_schedule('1f1b', range(2), 2)
  with pytest.raises(ValueError, match=words):
    schedules.simulate(schedule, durations, transfers)


def test_a_deadlock_is_refused():
  schedule = schedules.Schedule(
    'mine', 1, (0,), ((Task(B, 0, 0), Task(F, 0, 0)),)
  )
  with pytest.raises(ScheduleError, match='deadlocks'):
    schedules.simulate(schedule)
