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

The search is bounded by its work and not by time, so it finds the same schedule
everywhere.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

from lingvo_gpipe.schedules import registry
from lingvo_gpipe.schedules.list_scheduler import by_rules
from lingvo_gpipe.schedules.lower_bound import lower_bound
from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.simulate import Time
from lingvo_gpipe.schedules.task import Schedule, ScheduleError, Task
from lingvo_gpipe.schedules.validate import validate

# How many tasks are timed in the improvement of all candidates: seconds.
_WORK = 600_000
_MOST_IMPROVED = 3


@dataclasses.dataclass(frozen=True)
class BestOrder:
  """A schedule, its time, and a bound below which no schedule can come."""

  schedule: Schedule
  time: Time
  bound: float

  @property
  def gap(self) -> float:
    """How much longer it takes than the bound, as a share of the bound."""
    return float(self.time / self.bound - 1) if self.bound else 0.0


@functools.lru_cache(maxsize=64)
def find_best_order(problem: OrderProblem) -> BestOrder:
  """The schedule 'auto'; ScheduleError if no order, or not the known, fits."""
  if problem.known is not None:
    return _known_order(problem, problem.known)
  _check_room(problem)
  bound = lower_bound(problem)
  times: dict[Schedule, Time] = {}
  for schedule in _candidates(problem):
    if problem.fits(schedule):
      times[schedule] = problem.simulate(schedule).step_time
      if times[schedule] <= bound:
        break
  best = min(times, key=times.__getitem__)
  time = times[best]
  if time > bound:
    split = sorted((s for s in times if s.is_split), key=times.__getitem__)
    for start in split[:_MOST_IMPROVED]:
      better, sooner = _improved(problem, start, bound)
      if sooner < time:
        best, time = better, sooner
  return BestOrder(dataclasses.replace(best, name='auto'), time, bound)


def _known_order(problem: OrderProblem, schedule: Schedule) -> BestOrder:
  validate(schedule)
  sizes = schedule.num_micro_batches, schedule.cell_devices
  if (
    sizes != (problem.num_micro_batches, problem.cell_devices)
    or schedule.first_backward != problem.first_backward
    or not problem.fits(schedule)
  ):
    raise ScheduleError(
      'The order that is known is for another pipeline, or does not fit into '
      'the memory. Delete the file that has it to look for another one.'
    )
  time = problem.simulate(schedule).step_time
  return BestOrder(schedule, time, lower_bound(problem))


def _check_room(problem: OrderProblem) -> None:
  for device, cells in enumerate(problem.device_cells()):
    least = sum(problem.stash[k] for k in cells if k >= problem.first_backward)
    limit = problem.limits[device]
    if limit is not None and least > limit:
      raise ScheduleError(
        f'No order of the tasks fits: one micro-batch takes {least} of the '
        f'memory of device {device}, which has room for {limit}. Use smaller '
        'micro-batches, more devices, or recompute more.'
      )


def _candidates(problem: OrderProblem) -> Iterator[Schedule]:
  sizes = problem.cell_devices, problem.num_micro_batches
  for name in registry.BUILDERS:
    if registry.fits(name, problem.cell_devices):
      yield registry.build(name, *sizes, problem.first_backward)
  for rows in by_rules(problem):
    made = tuple(map(tuple, rows))
    yield Schedule('auto', *sizes[::-1], made, problem.first_backward)


def _improved(
  problem: OrderProblem, best: Schedule, bound: float
) -> tuple[Schedule, Time]:
  num_tasks = sum(map(len, best.device_tasks))
  work = _WORK // _MOST_IMPROVED
  timeline = problem.simulate(best)
  is_better = True
  while is_better and timeline.step_time > bound:
    is_better = False
    for rows in _exchanges(best, timeline.critical_path):
      other = dataclasses.replace(best, device_tasks=rows)
      if not problem.fits(other):
        continue
      if work <= 0:
        break
      work -= num_tasks
      try:
        found = problem.simulate(other)
      except ScheduleError:
        continue  # It would deadlock.
      if found.step_time < timeline.step_time:
        best, timeline, is_better = other, found, True
        break
  return best, timeline.step_time


def _exchanges(
  schedule: Schedule, path: Sequence[Task]
) -> Iterator[tuple[tuple[Task, ...], ...]]:
  """The rows with two neighbours on the path the other way round."""
  for first, second in itertools.pairwise(path):
    device = schedule.cell_devices[first.cell]
    if (
      device != schedule.cell_devices[second.cell]
      or (first.kind, first.cell) == (second.kind, second.cell)
      or first in schedule.dependencies(second)
    ):
      continue
    rows = list(schedule.device_tasks)
    row = list(rows[device])
    place = row.index(first)
    if row[place + 1] == second:
      row[place], row[place + 1] = second, first
      rows[device] = tuple(row)
      yield tuple(rows)
