# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The search finds short schedules, and knows how short they could be."""

import dataclasses
import itertools
import random

import pytest
import random_orders

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import OrderProblem, Task, TaskKind
from lingvo_gpipe.schedules.lower_bound import lower_bound


@pytest.mark.parametrize('seed', range(40))
def test_no_named_schedule_that_fits_is_shorter(seed):
  problem = random_orders.problem(seed)
  best = schedules.find_best_order(problem)
  schedules.validate(best.schedule)
  assert problem.fits(best.schedule)
  assert best.time == problem.simulate(best.schedule).step_time >= best.bound
  for named in random_orders.named(problem):
    if problem.fits(named):
      assert best.time <= problem.simulate(named).step_time


@pytest.mark.parametrize('num_devices', [2, 4])
def test_equal_tasks_give_what_zero_bubble_gives_in_no_more_memory(num_devices):
  limits = (num_devices,) * num_devices
  problem = OrderProblem(tuple(range(num_devices)), 8, limits=limits)
  best = schedules.find_best_order(problem)
  assert best.time == best.bound == 3 * 8 + num_devices - 1
  assert best.gap == 0


def test_it_is_the_same_each_time():
  problem = random_orders.problem(3)
  first = schedules.find_best_order(problem)
  schedules.find_best_order.cache_clear()
  assert schedules.find_best_order(problem) == first


def test_what_cannot_fit_is_an_error_with_the_numbers():
  problem = OrderProblem((0, 1), 2, limits=(1, 0.5))
  with pytest.raises(
    schedules.ScheduleError,
    match=r'takes 1 of the memory of device 1, .* room for 0.5',
  ):
    schedules.find_best_order(problem)


def _least(problem):
  """The least time of all orders, by trying them all."""
  cells = problem.device_cells()
  kinds = [
    [
      [Task(kind, cell, m) for m in range(problem.num_micro_batches)]
      for cell in of
      for kind in TaskKind
    ]
    for of in cells
  ]
  least = None
  for rows in itertools.product(*map(_merges, kinds)):
    schedule = schedules.Schedule(
      'any', problem.num_micro_batches, problem.cell_devices, rows
    )
    try:
      time = problem.simulate(schedule).step_time
    except schedules.ScheduleError:
      continue
    if problem.fits(schedule) and (least is None or time < least):
      least = time
  return least


def _merges(sequences):
  """All orders of a device's tasks that its own dependencies allow."""
  sequences = [s for s in sequences if s]
  if not sequences:
    return [()]
  found = []
  for i, sequence in enumerate(sequences):
    task = sequence[0]
    waits_for = {
      TaskKind.BACKWARD: TaskKind.FORWARD,
      TaskKind.WEIGHT_GRADIENT: TaskKind.BACKWARD,
    }.get(task.kind)
    if any(
      s[0].kind == waits_for
      and s[0].cell == task.cell
      and s[0].micro_batch <= task.micro_batch
      for s in sequences
    ):
      continue
    rest = [*sequences[:i], sequence[1:], *sequences[i + 1 :]]
    found += [(task, *after) for after in _merges(rest)]
  return found


@pytest.mark.parametrize('seed', range(12))
def test_small_ones_are_as_short_as_any_order_is(seed):
  rng = random.Random(seed)

  def times():
    return tuple(rng.randint(1, 9) for _ in range(2))

  problem = OrderProblem(
    (0, 1), 2, times(), times(), times(), (rng.randint(0, 4),)
  )
  if rng.random() < 0.5:
    problem = dataclasses.replace(problem, limits=(rng.randint(1, 2), 2))
  least = _least(problem)
  assert lower_bound(problem) <= least
  assert schedules.find_best_order(problem).time == least
