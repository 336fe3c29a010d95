# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Properties of every schedule over many sizes and arrangements of cells."""

import collections
import graphlib
import itertools
import random

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind

F, B = TaskKind.FORWARD, TaskKind.BACKWARD


def _arrangements():
  """Yields (cell_devices, M): regular ones, and random ones."""
  for num_cells in (1, 2, 3, 4, 7, 8):
    for num_micro_batches in (1, 2, 3, 8, 13):
      for num_devices in {1, 2, 3, num_cells}:
        yield [k % num_devices for k in range(num_cells)], num_micro_batches
        yield (
          [k * num_devices // num_cells for k in range(num_cells)],
          num_micro_batches,
        )
      yield list(reversed(range(num_cells))), num_micro_batches
  rng = random.Random(1)
  for _ in range(300):
    num_devices = rng.randint(1, 6)
    yield (
      [rng.randrange(num_devices) for _ in range(rng.randint(1, 12))],
      rng.randint(1, 14),
    )


def _kinds(forward_only):
  return [F] if forward_only else [F, B]


@pytest.mark.parametrize('forward_only', [False, True])
@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_every_task_runs_once_on_its_device_in_ascending_order(
  name, forward_only
):
  for cell_devices, num_micro_batches in _arrangements():
    schedule = schedules.make_schedule(
      name, cell_devices, num_micro_batches, forward_only=forward_only
    )
    assert schedule.num_devices == max(cell_devices) + 1
    runs = collections.defaultdict(list)
    for device, tasks in enumerate(schedule.device_tasks):
      for task in tasks:
        assert cell_devices[task.cell] == device
        runs[task.kind, task.cell].append(task.micro_batch)
    assert runs == {
      (kind, k): list(range(num_micro_batches))
      for kind in _kinds(forward_only)
      for k in range(len(cell_devices))
    }


@pytest.mark.parametrize('forward_only', [False, True])
@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_device_order_and_dependencies_have_no_cycle(name, forward_only):
  last = None
  for cell_devices, num_micro_batches in _arrangements():
    schedule = schedules.make_schedule(
      name, cell_devices, num_micro_batches, forward_only=forward_only
    )
    sorter = graphlib.TopologicalSorter()
    last = len(cell_devices) - 1
    for tasks in schedule.device_tasks:
      for before, after in itertools.pairwise(tasks):
        sorter.add(after, before)
      for kind, k, m in ((t.kind, t.cell, t.micro_batch) for t in tasks):
        if kind == F and k > 0:
          sorter.add(Task(F, k, m), Task(F, k - 1, m))
        if kind == B:
          sorter.add(Task(B, k, m), Task(F, k, m))
        if kind == B and k < last:
          sorter.add(Task(B, k, m), Task(B, k + 1, m))
    sorter.prepare()  # Raises CycleError for a deadlock.


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_in_order_keeps_device_orders_and_dependencies(name):
  for cell_devices, num_micro_batches in _arrangements():
    schedule = schedules.make_schedule(name, cell_devices, num_micro_batches)
    order = schedule.in_order()
    places = {task: place for place, task in enumerate(order)}
    assert len(places) == len(order)
    assert order == schedule.in_order()
    for tasks in schedule.device_tasks:
      assert [places[task] for task in tasks] == sorted(
        places[task] for task in tasks
      )
    for task in order:
      for needed in schedule.dependencies(task):
        assert places[needed] < places[task]


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_validate_accepts_every_schedule(name):
  for cell_devices, num_micro_batches in _arrangements():
    for forward_only in (False, True):
      schedules.validate(
        schedules.make_schedule(
          name, cell_devices, num_micro_batches, forward_only=forward_only
        )
      )


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_no_device_idles_where_all_cells_share_it(name):
  for num_cells in (1, 2, 5):
    for num_micro_batches in (1, 3, 8):
      schedule = schedules.make_schedule(
        name, [0] * num_cells, num_micro_batches
      )
      timeline = schedules.simulate(schedule)
      assert timeline.bubble == 0
      assert timeline.step_time == 2 * num_cells * num_micro_batches


def test_interleaving_shortens_the_bubble_of_gpipe():
  # Four devices, eight cells of half the size: half the bubble.
  whole = schedules.simulate(schedules.make_schedule('gpipe', range(4), 8), 2)
  halves = schedules.simulate(
    schedules.make_schedule('gpipe', [k % 4 for k in range(8)], 8), 1
  )
  assert whole.step_time == 2 * 2 * (8 + 3)
  assert halves.step_time == 2 * 2 * 8 + 2 * 3
