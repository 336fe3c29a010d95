# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a schedule: when each task runs, the bubble, and what is stashed."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from lingvo_gpipe.schedules.task import Schedule, Task, TaskKind

# Times have no unit of their own: what goes in comes out. Ints and Fractions
# are added and divided exactly, floats as floats.
Time: TypeAlias = int | float | Fraction
Durations: TypeAlias = (
  Time | Mapping[tuple[TaskKind, int], Time] | Callable[[Task], Time]
)
TransferTimes: TypeAlias = Time | Sequence[Time]


@dataclasses.dataclass(frozen=True)
class Timeline:
  """What `simulate` found. Times are in the unit of its arguments.

  Attributes:
    start: When each task starts; the first starts at 0.
    step_time: When the last task ends.
    device_busy: For each device, the time in which it runs a task.
    critical_path: Tasks that the step time is the sum of, with the transfers
      between them.
  """

  schedule: Schedule
  start: dict[Task, Time]
  end: dict[Task, Time]
  step_time: Time
  device_busy: tuple[Time, ...]
  critical_path: tuple[Task, ...]

  @functools.cached_property
  def bubble(self) -> Fraction | float:
    """The share of time in which no task runs on the devices with cells."""
    total = self.step_time * len(set(self.schedule.cell_devices))
    idle = total - sum(self.device_busy)
    if isinstance(idle, float):
      # Rounding could leave a negative idle time where there is none.
      return max(0.0, idle / float(total)) if total else 0.0
    return Fraction(idle) / Fraction(total) if total else Fraction(0)

  @functools.cached_property
  def peak_stash(self) -> tuple[int, ...]:
    return peak_stash(self.schedule)

  @functools.cached_property
  def device_peak_stash(self) -> tuple[int, ...]:
    return device_peak_stash(self.schedule)


def simulate(
  schedule: Schedule,
  durations: Durations = 1,
  transfer_times: TransferTimes = 0,
) -> Timeline:
  """Times a valid schedule.

  A task starts as soon as the task before it on its device has ended and the
  results it needs have arrived. Transfers between devices run at the same time
  as tasks and other transfers.

  Args:
    durations: How long each task takes, that of a BACKWARD with recomputation:
      one number for all, a mapping from (kind, cell), or a function of the
      task. Where weight gradients are tasks of their own, but the mapping has
      no entry for them, half of BACKWARD is theirs.
    transfer_times: How long a result travels from cell k to cell k + 1, and its
      gradient back: a number for each k, or one for all. Between cells of one
      device it is no time in any case.

  Raises ScheduleError if the schedule deadlocks, ValueError if a duration or
  transfer time is missing, negative or not finite.
  """
  duration_of = _duration_function(durations, schedule)
  boundaries = _boundary_times(schedule, transfer_times)
  start: dict[Task, Time] = {}
  end: dict[Task, Time] = {}
  waited_for: dict[Task, Task] = {}
  latest: list[Task | None] = [None] * schedule.num_devices
  busy: list[Time] = [0] * schedule.num_devices
  for task in schedule.in_order():
    device = schedule.cell_devices[task.cell]
    begin: Time = 0
    previous = latest[device]
    if previous is not None:
      begin, waited_for[task] = end[previous], previous
    for needed in schedule.dependencies(task):
      arrival = end[needed]
      if needed.cell != task.cell:
        arrival += boundaries[min(needed.cell, task.cell)]
      if arrival > begin:
        begin, waited_for[task] = arrival, needed
    duration = duration_of(task)
    check_number(f'The duration of task {task}', duration)
    start[task], end[task] = begin, begin + duration
    busy[device] += duration
    latest[device] = task
  path = [max(end, key=end.__getitem__)] if end else []
  while path and path[-1] in waited_for:
    path.append(waited_for[path[-1]])
  step_time = max(end.values(), default=0)
  return Timeline(
    schedule, start, end, step_time, tuple(busy), tuple(reversed(path))
  )


def _duration_function(
  durations: Durations, schedule: Schedule
) -> Callable[[Task], Time]:
  if callable(durations):
    return durations
  if not isinstance(durations, Mapping):
    of_all = durations
    return lambda task: of_all
  of_kinds = _halved(durations) if schedule.is_split else durations

  def duration_of(task: Task) -> Time:
    if (task.kind, task.cell) not in of_kinds:
      raise ValueError(
        f'durations has no entry for ({task.kind}, {task.cell}), which task '
        f'{task} needs.'
      )
    return of_kinds[task.kind, task.cell]

  return duration_of


def _halved(
  durations: Mapping[tuple[TaskKind, int], Time],
) -> dict[tuple[TaskKind, int], Time]:
  """Durations in which weight gradients have some of their own."""
  halved = dict(durations)
  for (kind, cell), duration in durations.items():
    weights = TaskKind.WEIGHT_GRADIENT, cell
    if kind == TaskKind.BACKWARD and weights not in durations:
      exact = Fraction(duration) if isinstance(duration, int) else duration
      halved[kind, cell] = halved[weights] = exact / 2
  return halved


def _boundary_times(
  schedule: Schedule, transfer_times: TransferTimes
) -> list[Time]:
  count, devices = schedule.num_cells - 1, schedule.cell_devices
  if not isinstance(transfer_times, Sequence):
    transfer_times = [transfer_times] * count
  if len(transfer_times) != count:
    raise ValueError(
      f'transfer_times has {len(transfer_times)} entries; {count + 1} cells '
      f'have {count} boundaries.'
    )
  for k, time in enumerate(transfer_times):
    check_number(f'The transfer time from cell {k} to {k + 1}', time)
  return [
    0 if devices[k] == devices[k + 1] else time
    for k, time in enumerate(transfer_times)
  ]


def check_number(what: str, value: Time) -> None:
  """Raises ValueError if a number is negative or not finite."""
  if not (math.isfinite(value) and value >= 0):
    raise ValueError(f'{what} is {value}; it must be finite and 0 or more.')


def stash_counts(
  schedule: Schedule, device: int
) -> Iterator[tuple[Task, dict[int, int]]]:
  """Yields each task of a device with what is stashed while it runs.

  A cell stashes a micro-batch from the start of its forward to the end of its
  backward (of its weight gradient, where that is a task of its own), a cell
  without backwards nothing. The counts, a dict that is updated in place, are
  for each cell with backwards, the task's own micro-batch included.
  """
  counts = {
    cell: 0
    for cell, cell_device in enumerate(schedule.cell_devices)
    if cell_device == device and not schedule.forward_only
    if cell >= schedule.first_backward
  }
  last_kind = TaskKind.BACKWARD
  if schedule.is_split:
    last_kind = TaskKind.WEIGHT_GRADIENT
  for task in schedule.device_tasks[device]:
    if task.kind == TaskKind.FORWARD and task.cell in counts:
      counts[task.cell] += 1
    yield task, counts
    if task.kind == last_kind:
      counts[task.cell] -= 1


def peak_stash(schedule: Schedule) -> tuple[int, ...]:
  """For each cell, the most micro-batches it ever stashes."""
  peaks = [0] * schedule.num_cells
  for device in range(schedule.num_devices):
    for task, counts in stash_counts(schedule, device):
      peaks[task.cell] = max(peaks[task.cell], counts.get(task.cell, 0))
  return tuple(peaks)


def device_peak_stash(schedule: Schedule) -> tuple[int, ...]:
  """For each device, the most (cell, micro-batch) pairs it stashes at once."""
  return tuple(
    max(
      (sum(counts.values()) for _, counts in stash_counts(schedule, device)),
      default=0,
    )
    for device in range(schedule.num_devices)
  )


def peak_handed(schedule: Schedule) -> tuple[int, ...]:
  """The most micro-batches of each cell that wait for their W.

  They are counted while a B or a W of another micro-batch, or of another cell,
  runs on the device.
  """
  peaks = [0] * schedule.num_cells
  for tasks in schedule.device_tasks if schedule.is_split else ():
    waiting = dict.fromkeys((task.cell for task in tasks), 0)
    for task in tasks:
      if task.kind == TaskKind.WEIGHT_GRADIENT:
        waiting[task.cell] -= 1
      if task.kind != TaskKind.FORWARD:
        for cell, count in waiting.items():
          peaks[cell] = max(peaks[cell], count)
      if task.kind == TaskKind.BACKWARD:
        waiting[task.cell] += 1
  return tuple(peaks)
