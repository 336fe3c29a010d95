# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools
import random
from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind

F, B, W = TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.WEIGHT_GRADIENT


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


@pytest.mark.parametrize(
  'durations, transfers, words',
  [
    ({(F, 0): 1, (F, 1): 1, (B, 1): 1}, 0, 'BACKWARD, 0'),
    (-1, 0, 'F0.0 is -1'),
    (float('nan'), 0, 'F0.0 is nan'),
    (float('inf'), 0, 'F0.0 is inf'),
    (1, [1, 2], 'has 2 entries; 2 cells have 1 boundaries'),
    (1, -2, 'from cell 0 to 1 is -2'),
  ],
)
def test_bad_times_are_named(durations, transfers, words):
  schedule = schedules.make_schedule('1f1b', range(2), 2)
  with pytest.raises(ValueError, match=words):
    schedules.simulate(schedule, durations, transfers)
