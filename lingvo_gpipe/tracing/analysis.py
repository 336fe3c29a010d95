# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a measured step says: utilisation, bubble, and what it waited for.

The prediction beside it is the simulator's, given how long each task of this
very step took and how long results travelled. So what the two differ by is
neither the model's cost nor the schedule, but the delays between tasks:

```
  ready: the task before it on the device has ended, and results have arrived
  ----[ task before ]..............[ task ]
                    |--- delay ----|
  cell k   [ task ]--- transfer --->|
```
"""

import dataclasses
import functools
import statistics
from collections.abc import Sequence

from lingvo_gpipe.schedules import Task, TaskKind, Timeline, simulate
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass(frozen=True)
class PathStep:
  """A task on the critical path.

  Attributes:
    waited_for: The task whose end let it start, None for the first.
    transfer: How long the result of that one travelled, in seconds.
    delay: How long it still took from then to its start, in seconds.
    duration: How long the task took, in seconds.
  """

  task: Task
  waited_for: Task | None
  transfer: float
  delay: float
  duration: float


class Analysis:
  """One step, measured and predicted. Times are in seconds."""

  def __init__(self, measured: MeasuredStep):
    self.measured = measured

  @functools.cached_property
  def transfer_times(self) -> tuple[float, ...]:
    """For each boundary, how long results travel; 0 within a process."""
    return transfer_times([self.measured])

  @functools.cached_property
  def predicted(self) -> Timeline:
    """What the simulator makes of the step's durations and transfers."""
    step = self.measured
    return simulate(step.schedule, step.duration, self.transfer_times)

  @functools.cached_property
  def busy(self) -> tuple[float, ...]:
    """For each device, how long it ran tasks."""
    busy = [0.0] * self.measured.schedule.num_devices
    for task in self.measured.start:
      busy[self.measured.device_of(task)] += self.measured.duration(task)
    return tuple(busy)

  @property
  def bubble(self) -> float:
    """The share of device time in which no task ran.

    Over the devices that hold a cell, from the first task's start to the last
    one's end.
    """
    num_used = len(set(self.measured.schedule.cell_devices))
    return max(0.0, 1 - self.concurrency / num_used)

  @property
  def predicted_bubble(self) -> float:
    return float(self.predicted.bubble)

  @property
  def utilisation(self) -> tuple[float, ...]:
    """For each device, the share of the time in which it ran tasks."""
    return tuple(busy / self.measured.length for busy in self.busy)

  @property
  def concurrency(self) -> float:
    """How many devices ran tasks at once, on average."""
    return sum(self.busy) / self.measured.length

  @functools.cached_property
  def delay(self) -> float:
    """The median time from when a task could start to when it did."""
    return statistics.median(
      self._path_step(task).delay for task in self.measured.start
    )

  @functools.cached_property
  def critical_path(self) -> tuple[PathStep, ...]:
    """From first to last task, each the one that the next waited for."""
    end = self.measured.end
    path = [self._path_step(max(end, key=lambda task: end[task]))]
    while path[-1].waited_for is not None:
      path.append(self._path_step(path[-1].waited_for))
    return tuple(reversed(path))

  def _path_step(self, task: Task) -> PathStep:
    """A task with what it waited for."""
    step = self.measured
    tasks = step.schedule.device_tasks[step.device_of(task)]
    position = tasks.index(task)
    waited_for = tasks[position - 1] if position else None
    ready = step.end[waited_for] if waited_for else 0.0
    transfer = 0.0
    for needed in step.schedule.dependencies(task):
      arrived = step.arrived(needed, task)
      if arrived > ready:
        ready, waited_for = arrived, needed
        transfer = arrived - step.end[needed]
    delay = max(0.0, step.start[task] - ready)
    return PathStep(task, waited_for, transfer, delay, step.duration(task))


def transfer_times(steps: Sequence[MeasuredStep]) -> tuple[float, ...]:
  """For each boundary, the median of all steps and of both directions."""
  boundaries: list[list[float]] = [
    [] for _ in range(steps[0].schedule.num_cells - 1)
  ]
  for step in steps:
    for (needed, task), arrived in step.arrival.items():
      if needed.cell != task.cell:
        k = min(needed.cell, task.cell)
        boundaries[k].append(arrived - step.end[needed])
  return tuple(
    statistics.median(times) if times else 0.0 for times in boundaries
  )


@dataclasses.dataclass(frozen=True)
class CellTimes:
  """Seconds that tasks of each kind and cell take.

  Attributes:
    of: The mean over micro-batches of the median over steps, by (kind, cell).
    recompute: For each cell, how much of a backward task goes into running the
      forward pass again; the mean over the micro-batches.
    num_cells: K.
  """

  of: dict[tuple[TaskKind, int], float]
  recompute: tuple[float, ...]
  num_cells: int

  def total(self, cell: int) -> float:
    """All that a micro-batch costs in a cell, in seconds."""
    return sum(t for (_, k), t in self.of.items() if k == cell)

  @property
  def slowest(self) -> int:
    """The cell that costs most."""
    return max(range(self.num_cells), key=self.total)

  @property
  def imbalance(self) -> float:
    """The slowest cell's cost over the mean; 1 if nothing costs anything."""
    totals = [self.total(k) for k in range(self.num_cells)]
    mean = statistics.fmean(totals)
    return max(totals) / mean if mean else 1.0


def cell_times(steps: Sequence[MeasuredStep]) -> CellTimes:
  """The cells' times from steps of one schedule."""
  schedule = steps[0].schedule
  durations: dict[tuple[TaskKind, int], list[float]] = {}
  recompute: list[list[float]] = [[] for _ in range(schedule.num_cells)]
  for task in schedule.in_order():
    durations.setdefault((task.kind, task.cell), []).append(
      statistics.median(step.duration(task) for step in steps)
    )
    if task.kind == TaskKind.BACKWARD:
      recompute[task.cell].append(
        statistics.median(step.recompute.get(task, 0.0) for step in steps)
      )
  return CellTimes(
    of={key: statistics.fmean(times) for key, times in durations.items()},
    recompute=tuple(statistics.fmean(t) if t else 0.0 for t in recompute),
    num_cells=schedule.num_cells,
  )
