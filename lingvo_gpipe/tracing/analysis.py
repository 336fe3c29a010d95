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
import statistics
from collections.abc import Sequence

from lingvo_gpipe.schedules import Task, Timeline, simulate
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass(frozen=True)
class PathStep:
  """A task on the critical path.

  Attributes:
    task: The task.
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


@dataclasses.dataclass(frozen=True)
class Analysis:
  """One step, measured and predicted. Times are in seconds.

  Attributes:
    measured: The step.
    predicted: What the simulator makes of its durations and transfers.
    busy: For each device, how long it ran tasks.
    bubble: The share of device time in which no task ran, over the devices
      that hold a cell, from the first task's start to the last one's end.
    critical_path: Tasks from the first to the last to end, each the one that
      the next waited for.
    transfer_times: For each boundary between cells on different devices, the
      median time from the end of a task to the arrival of its result.
    delay: The median time from when a task could start to when it did.
  """

  measured: MeasuredStep
  predicted: Timeline
  busy: tuple[float, ...]
  bubble: float
  critical_path: tuple[PathStep, ...]
  transfer_times: tuple[float, ...]
  delay: float

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


def analyse(step: MeasuredStep) -> Analysis:
  """Analyses a step, and simulates it with its own durations."""
  busy = [0.0] * step.schedule.num_devices
  for task in step.start:
    busy[step.device_of(task)] += step.duration(task)
  num_used = len(set(step.schedule.cell_devices))
  transfers = transfer_times([step])
  delays = [_waited(step, task)[2] for task in step.start]
  return Analysis(
    measured=step,
    predicted=simulate(step.schedule, step.duration, transfers),
    busy=tuple(busy),
    bubble=max(0.0, 1 - sum(busy) / (num_used * step.length)),
    critical_path=_critical_path(step),
    transfer_times=transfers,
    delay=statistics.median(delays),
  )


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


def _waited(step: MeasuredStep, task: Task) -> tuple[Task | None, float, float]:
  """The task that one waited for, the transfer of its result, and the delay."""
  tasks = step.schedule.device_tasks[step.device_of(task)]
  position = tasks.index(task)
  ready, waited_for, transfer = 0.0, None, 0.0
  if position:
    waited_for = tasks[position - 1]
    ready = step.end[waited_for]
  for needed in step.schedule.dependencies(task):
    arrived = step.arrived(needed, task)
    if arrived > ready:
      ready, waited_for = arrived, needed
      transfer = arrived - step.end[needed]
  return waited_for, transfer, max(0.0, step.start[task] - ready)


def _critical_path(step: MeasuredStep) -> tuple[PathStep, ...]:
  """Walks back from the last task to end over what each one waited for."""
  task: Task | None = max(step.end, key=lambda ended: step.end[ended])
  path = []
  while task is not None:
    waited_for, transfer, delay = _waited(step, task)
    path.append(
      PathStep(task, waited_for, transfer, delay, step.duration(task))
    )
    task = waited_for
  return tuple(reversed(path))


def typical(analyses: Sequence[Analysis]) -> Analysis:
  """The step of median length: the one to show."""
  ordered = sorted(analyses, key=lambda a: a.measured.length)
  return ordered[(len(ordered) - 1) // 2]
