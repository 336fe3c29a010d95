# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of counting what is stashed."""

import random
from fractions import Fraction

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import TaskKind, stash

F, B = TaskKind.FORWARD, TaskKind.BACKWARD


def _stashed_at(timeline, cell, time):
  """Micro-batches with forward start <= time < backward end."""
  return sum(
    timeline.start[task]
    <= time
    < timeline.end[schedules.Task(B, cell, task.micro_batch)]
    for task in timeline.start
    if task.kind == F and task.cell == cell
  )


def test_peaks_are_those_of_the_timeline_whatever_the_durations():
  rng = random.Random(7)
  for _ in range(60):
    num_cells = rng.randint(1, 6)
    schedule = schedules.make_schedule(
      rng.choice(schedules.SCHEDULE_NAMES),
      [rng.randrange(3) for _ in range(num_cells)],
      rng.randint(1, 6),
    )
    timeline = schedules.simulate(
      schedule,
      {
        (kind, k): Fraction(rng.randint(1, 9), 2)
        for kind in (F, B)
        for k in range(num_cells)
      },
      rng.randint(0, 3),
    )
    times = sorted(set(timeline.start.values()))
    counts = [
      [_stashed_at(timeline, k, time) for k in range(num_cells)]
      for time in times
    ]
    assert timeline.peak_stash == tuple(
      max(at[k] for at in counts) for k in range(num_cells)
    )
    for device in range(schedule.num_devices):
      cells = [
        k for k in range(num_cells) if schedule.cell_devices[k] == device
      ]
      assert timeline.device_peak_stash[device] == max(
        sum(at[k] for k in cells) for at in counts
      )


def test_counts_come_with_each_task():
  schedule = schedules.make_schedule('1f1b', [0, 0], 2)
  seen = [
    f'{task} {counts[0]} {counts[1]}'
    for task, counts in stash.stash_counts(schedule, 0)
  ]
  assert seen == [
    'F0.0 1 0',
    'F1.0 1 1',
    'B1.0 1 1',
    'B0.0 1 0',
    'F0.1 1 0',
    'F1.1 1 1',
    'B1.1 1 1',
    'B0.1 1 0',
  ]
