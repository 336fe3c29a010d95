# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Looks for the schedule that ends first, and says how far it may be off.

1. Rules order the tasks as devices that act at once would (`list_scheduler`).
2. The named schedules that fit are tried as they are.
3. The best of these are improved: tasks that follow each other on a device and
   on the critical path change places, as long as that helps.

```
  device 0  F0 F1 [B0 F2] B1        the critical path goes from B0 through F2:
  device 1     F0  B0  F1 B1   ---> try F2 before B0
```

4. `lower_bound` says how much sooner any schedule could end at most.

The time until the weights are updated is what counts: from the start of the
first task to the end of the last. Papers on zero bubble count each device's
own span; that is no shorter where all devices wait for the global norm of the
gradients, or for a check of the loss.

The search counts its work and not the time, so it finds the same schedule
everywhere.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from lingvo_gpipe.schedules import one_f_one_b
from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.list_scheduler import ListScheduler, rules
from lingvo_gpipe.schedules.lower_bound import lower_bound
from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.simulate import Time
from lingvo_gpipe.schedules.validate import validate

_NAME = 'auto'
# How many tasks are timed in the improvement of all candidates: seconds.
_WORK = 600_000
_MOST_IMPROVED = 3


@dataclasses.dataclass(frozen=True)
class BestOrder:
  """What the search found.

  Attributes:
    schedule: The schedule.
    time: When its last task ends.
    bound: A time below which no schedule can come.
  """

  schedule: task_lib.Schedule
  time: Time
  bound: float

  @property
  def gap(self) -> float:
    """How much longer it takes than the bound, as a share of the bound."""
    return float(self.time / self.bound - 1) if self.bound else 0.0


def best_order(
  problem: OrderProblem, named: Iterable[task_lib.Schedule] = ()
) -> BestOrder:
  """Finds a short schedule.

  Args:
    problem: The pipeline.
    named: Schedules for the same cells, devices and micro-batches that the
      result must not be longer than, as far as they fit.

  Raises:
    ScheduleError: No order fits into the memory that there is.
  """
  _check_room(problem)
  bound = lower_bound(problem)
  candidates: dict[task_lib.Schedule, Time] = {}
  for schedule in itertools.chain(named, _by_rules(problem)):
    if problem.fits(schedule):
      time = problem.simulate(schedule).step_time
      candidates[schedule] = time
      if time <= bound:
        break
  best, time = min(candidates.items(), key=lambda item: item[1])
  if time > bound:
    split = [s for s in candidates if s.is_split]
    for start in sorted(split, key=candidates.__getitem__)[:_MOST_IMPROVED]:
      better, sooner = _Improvement(problem, start, bound).run()
      if sooner < time:
        best, time = better, sooner
  return BestOrder(dataclasses.replace(best, name=_NAME), time, bound)


def _check_room(problem: OrderProblem) -> None:
  for device, cells in enumerate(problem.device_cells()):
    trained = [k for k in cells if k >= problem.first_backward]
    least = sum(problem.stash[k] for k in trained)
    limit = problem.limits[device]
    if limit is not None and least > limit:
      raise task_lib.ScheduleError(
        f'No order of the tasks fits: one micro-batch takes {least} of the '
        f'memory of device {device}, which has room for {limit}. Use smaller '
        'micro-batches, more devices, or recompute more.'
      )


def known_order(
  problem: OrderProblem, schedule: task_lib.Schedule
) -> BestOrder:
  """An order that was found before, checked and timed.

  Raises:
    ScheduleError: It cannot run, or is for another pipeline or more memory.
  """
  validate(schedule)
  sizes = schedule.num_micro_batches, schedule.cell_devices
  if (
    sizes != (problem.num_micro_batches, problem.cell_devices)
    or schedule.first_backward != problem.first_backward
    or not problem.fits(schedule)
  ):
    raise task_lib.ScheduleError(
      'The order that is known is for another pipeline, or does not fit into '
      'the memory. Delete the file that has it to look for another one.'
    )
  time = problem.simulate(schedule).step_time
  return BestOrder(schedule, time, lower_bound(problem))


def _by_rules(problem: OrderProblem) -> Iterable[task_lib.Schedule]:
  limits = one_f_one_b.in_flight_limits(
    problem.cell_devices, problem.num_micro_batches
  )
  for rule in rules(problem, limits):
    yield _schedule(problem, ListScheduler(problem, rule).run())


def _schedule(
  problem: OrderProblem, rows: Sequence[Sequence[task_lib.Task]]
) -> task_lib.Schedule:
  return task_lib.Schedule(
    _NAME,
    problem.num_micro_batches,
    problem.cell_devices,
    tuple(map(tuple, rows)),
    problem.first_backward,
  )


class _Improvement:
  """Changes places of neighbours on the critical path."""

  def __init__(
    self, problem: OrderProblem, schedule: task_lib.Schedule, bound: float
  ):
    self._problem = problem
    self._best = schedule
    self._bound = bound
    self._num_tasks = sum(map(len, schedule.device_tasks))
    self._work = _WORK // _MOST_IMPROVED

  def run(self) -> tuple[task_lib.Schedule, Time]:
    """The improved schedule, and its time."""
    timeline = self._problem.simulate(self._best)
    tried: set[tuple[tuple[task_lib.Task, ...], ...]] = set()
    while timeline.step_time > self._bound and self._work > 0:
      for first, second in self._pairs(timeline.critical_path):
        rows = self._swapped(first, second)
        if rows is None or rows in tried:
          continue
        tried.add(rows)
        schedule = dataclasses.replace(self._best, device_tasks=rows)
        if not self._problem.fits(schedule):
          continue
        self._work -= self._num_tasks
        try:
          other = self._problem.simulate(schedule)
        except task_lib.ScheduleError:
          continue  # It would deadlock.
        if other.step_time < timeline.step_time:
          self._best, timeline = schedule, other
          break
        if self._work <= 0:
          break
      else:
        break
    return self._best, timeline.step_time

  def _pairs(
    self, path: Sequence[task_lib.Task]
  ) -> list[tuple[task_lib.Task, task_lib.Task]]:
    """Neighbours on the path and on a device that may change places."""
    return [
      (first, second)
      for first, second in itertools.pairwise(path)
      if self._device(first) == self._device(second)
      and (first.kind, first.cell) != (second.kind, second.cell)
      and first not in self._best.dependencies(second)
    ]

  def _device(self, task: task_lib.Task) -> int:
    return self._problem.cell_devices[task.cell]

  def _swapped(
    self, first: task_lib.Task, second: task_lib.Task
  ) -> tuple[tuple[task_lib.Task, ...], ...] | None:
    """The rows with the two tasks the other way round."""
    device = self._device(first)
    row = list(self._best.device_tasks[device])
    place = row.index(first)
    if row[place + 1] != second:
      return None
    row[place], row[place + 1] = second, first
    rows = list(self._best.device_tasks)
    rows[device] = tuple(row)
    return tuple(rows)
