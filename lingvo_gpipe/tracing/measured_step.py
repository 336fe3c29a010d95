# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""When the tasks of a schedule ran in some steps, and what that says.

The simulator is given how long each task of the very step took, and how long
results travelled. So it differs from the step by the delays between tasks:

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
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.schedules import Schedule, Task, TaskKind, Timeline, simulate
from lingvo_gpipe.tracing.events import Memory


class PathStep(NamedTuple):
  """A task on the critical path, and whose end let it start; in seconds."""

  task: Task
  waited_for: Task | None
  transfer: float  # The result of `waited_for` travelled so long.
  delay: float  # From then to the task's start.


@dataclasses.dataclass(frozen=True)
class MeasuredStep:
  """One step of a pipeline. Times are in seconds; the first task starts at 0.

  Attributes:
    recompute: How much of a backward task ran the forward pass again, if so.
    arrival: When the first task's result came to the second's other process.
    clock_shifts: Added to a process's times if its clock could not be right.
    seconds: From when the client asked for the step to the end of its last op;
      after that the client waits for the trace itself.
  """

  schedule: Schedule
  devices: tuple[str, ...]  # Names; '' for one without a cell.
  start: Mapping[Task, float]
  end: Mapping[Task, float]
  recompute: Mapping[Task, float]
  arrival: Mapping[tuple[Task, Task], float]
  clock_shifts: Mapping[str, float]
  seconds: float
  before: float  # Of `seconds`, before the first task.
  memory: Memory  # Of the processes on this machine.

  @functools.cached_property
  def length(self) -> float:
    """From the start of the first task to the end of the last."""
    return max(self.end.values())

  @property
  def after(self) -> float:
    """From the last task's end to that of the step's last op."""
    return max(0.0, self.seconds - self.before - self.length)

  def duration(self, task: Task) -> float:
    return self.end[task] - self.start[task]

  def device_of(self, task: Task) -> int:
    return self.schedule.cell_devices[task.cell]

  def cells_of(self, device: int) -> list[int]:
    return [k for k, d in enumerate(self.schedule.cell_devices) if d == device]

  @functools.cached_property
  def simulated(self) -> Timeline:
    """What the simulator makes of the step's durations and transfers."""
    return simulate(self.schedule, self.duration, transfer_times([self]))

  @functools.cached_property
  def utilisation(self) -> list[float]:
    """For each device, the share of `length` in which it ran tasks."""
    return [
      sum(map(self.duration, tasks)) / self.length
      for tasks in self.schedule.device_tasks
    ]

  @property
  def concurrency(self) -> float:
    """How many devices ran tasks at once, on average."""
    return sum(self.utilisation)

  @property
  def bubble(self) -> float:
    """The share of `length` in which no task ran, over devices with a cell."""
    num_used = len(set(self.schedule.cell_devices))
    return max(0.0, 1 - self.concurrency / num_used)

  @property
  def delay(self) -> float:
    """The median time from when a task could start to when it did."""
    return statistics.median(self._path_step(t).delay for t in self.start)

  @functools.cached_property
  def critical_path(self) -> list[PathStep]:
    """From first to last task, each the one that the next waited for."""
    path = [self._path_step(max(self.end, key=lambda task: self.end[task]))]
    while path[0].waited_for is not None:
      path.insert(0, self._path_step(path[0].waited_for))
    return path

  def _path_step(self, task: Task) -> PathStep:
    tasks = self.schedule.device_tasks[self.device_of(task)]
    position = tasks.index(task)
    waited_for = tasks[position - 1] if position else None
    ready = self.end[waited_for] if waited_for else 0.0
    transfer = 0.0
    for needed in self.schedule.dependencies(task):
      arrived = self.arrival.get((needed, task), self.end[needed])
      if arrived > ready:
        ready, waited_for = arrived, needed
        transfer = arrived - self.end[needed]
    return PathStep(
      task, waited_for, transfer, max(0.0, self.start[task] - ready)
    )


def transfer_times(steps: Sequence[MeasuredStep]) -> list[float]:
  """How long results travel over each boundary: medians, 0 in a process."""
  boundaries: list[list[float]] = [
    [] for _ in range(steps[0].schedule.num_cells - 1)
  ]
  for step in steps:
    for (needed, task), arrived in step.arrival.items():
      if needed.cell != task.cell:
        k = min(needed.cell, task.cell)
        boundaries[k].append(arrived - step.end[needed])
  return [statistics.median(times) if times else 0.0 for times in boundaries]


@dataclasses.dataclass
class TracedPipeline:
  """Several traced steps of a pipeline. Figures are medians of the steps."""

  model: str
  name: str  # Its path in the model.
  layers: Sequence[str]  # The text of each cell's.
  recompute: str  # The policy.
  loss_inside: bool
  steps: Mapping[int, MeasuredStep]  # At least one, ascending.
  num_examples: int | None = None  # Of a mini-batch.
  cut: Partition | None = None  # None: layers' costs not known.
  num_cores: int = 1  # What this machine lets the devices have.
  are_cpus: bool = True

  def median(self, figure: Callable[[MeasuredStep], float]) -> float:
    return statistics.median(map(figure, self.steps.values()))

  @functools.cached_property
  def shown_step(self) -> int:
    """The number of the step of median length."""
    numbers = sorted(self.steps, key=lambda n: self.steps[n].length)
    return numbers[(len(numbers) - 1) // 2]

  @property
  def shown(self) -> MeasuredStep:
    return self.steps[self.shown_step]

  @functools.cached_property
  def times(self) -> dict[tuple[TaskKind, int], float]:
    """By kind and cell: the mean over micro-batches of medians."""
    durations: dict[tuple[TaskKind, int], list[float]] = {}
    for task in self.shown.schedule.in_order():
      durations.setdefault((task.kind, task.cell), []).append(
        statistics.median(step.duration(task) for step in self.steps.values())
      )
    return {key: statistics.fmean(times) for key, times in durations.items()}

  @functools.cached_property
  def recompute_times(self) -> list[float]:
    """How much of that is recomputation, by cell."""
    schedule = self.shown.schedule
    sums = [0.0] * schedule.num_cells
    for task in schedule.in_order():
      sums[task.cell] += statistics.median(
        step.recompute.get(task, 0.0) for step in self.steps.values()
      )
    return [total / schedule.num_micro_batches for total in sums]

  @functools.cached_property
  def cell_seconds(self) -> list[float]:
    """The sum of a micro-batch's tasks in each cell."""
    return [
      sum(time for (_, cell), time in self.times.items() if cell == k)
      for k in range(self.shown.schedule.num_cells)
    ]

  @functools.cached_property
  def transfer_times(self) -> list[float]:
    return transfer_times(list(self.steps.values()))

  @property
  def step_seconds(self) -> float:
    return self.median(lambda step: step.seconds)
