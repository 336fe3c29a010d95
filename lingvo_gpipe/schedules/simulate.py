# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a schedule: when each task runs, the bubble, and what is stashed."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from lingvo_gpipe.schedules import stash
from lingvo_gpipe.schedules import task as task_lib

# Times have no unit of their own: what goes in comes out. Ints and Fractions
# are added and divided exactly, floats as floats.
Time: TypeAlias = int | float | Fraction
Durations: TypeAlias = (
  Time
  | Mapping[tuple[task_lib.TaskKind, int], Time]
  | Callable[[task_lib.Task], Time]
)
TransferTimes: TypeAlias = Time | Sequence[Time] | None


@dataclasses.dataclass(frozen=True)
class Timeline:
  """What `simulate` found. Times are in the unit of its arguments.

  Attributes:
    schedule: The schedule that ran.
    start: When each task starts; the first starts at 0.
    end: When each task ends.
    step_time: When the last task ends.
    device_busy: For each device, the time in which it runs a task.
    bubble: The share of device time in which no task runs, over the devices
      that hold a cell: exact if all durations are, 0 if the step takes no time.
    critical_path: Tasks that the step time is the sum of, with the transfers
      between them: each but the first starts as soon as the one before it has
      ended and, between cells, its result has arrived.
  """

  schedule: task_lib.Schedule
  start: dict[task_lib.Task, Time]
  end: dict[task_lib.Task, Time]
  step_time: Time
  device_busy: tuple[Time, ...]
  bubble: Fraction | float
  critical_path: tuple[task_lib.Task, ...]

  @functools.cached_property
  def peak_stash(self) -> tuple[int, ...]:
    """For each cell, the most micro-batches it ever stashes."""
    return stash.peak_stash(self.schedule)

  @functools.cached_property
  def device_peak_stash(self) -> tuple[int, ...]:
    """For each device, the most (cell, micro-batch) pairs stashed at once."""
    return stash.device_peak_stash(self.schedule)


def simulate(
  schedule: task_lib.Schedule,
  durations: Durations = 1,
  transfer_times: TransferTimes = None,
) -> Timeline:
  """Times a schedule.

  A task starts as soon as the task before it on its device has ended and the
  results it needs have arrived. Transfers between devices run at the same time
  as tasks and other transfers. There is no other delay.

  Args:
    schedule: A valid schedule.
    durations: How long each task takes: one number for all, a mapping from
      (kind, cell), or a function of the task. With recomputation, let the
      duration of a BACKWARD contain it. Where weight gradients are tasks of
      their own, but the mapping has no entry for them, half of BACKWARD is
      theirs.
    transfer_times: How long a result travels over each boundary: entry k is
      for activations from cell k to cell k + 1, and for their gradients back.
      One number stands for all boundaries, None for 0. A boundary between two
      cells of one device takes no time, whatever is given here.

  Raises:
    ScheduleError: The schedule deadlocks.
    ValueError: A duration or transfer time is missing, negative or not finite.
  """
  duration_of = _duration_function(durations, schedule)
  boundaries = _boundary_times(schedule, transfer_times)
  start: dict[task_lib.Task, Time] = {}
  end: dict[task_lib.Task, Time] = {}
  waited_for: dict[task_lib.Task, task_lib.Task] = {}
  latest: list[task_lib.Task | None] = [None] * schedule.num_devices
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
    start[task], end[task] = begin, begin + duration
    busy[device] += duration
    latest[device] = task
  step_time = max(end.values(), default=0)
  return Timeline(
    schedule=schedule,
    start=start,
    end=end,
    step_time=step_time,
    device_busy=tuple(busy),
    bubble=_bubble(schedule, busy, step_time),
    critical_path=_critical_path(end, waited_for),
  )


def _duration_function(
  durations: Durations, schedule: task_lib.Schedule
) -> Callable[[task_lib.Task], Time]:
  """Durations in any of their forms as a function of the task, checked."""
  if isinstance(durations, Mapping) and schedule.is_split:
    durations = _halved(durations)

  def duration_of(task: task_lib.Task) -> Time:
    if callable(durations):
      duration = durations(task)
    elif isinstance(durations, Mapping):
      if (task.kind, task.cell) not in durations:
        raise ValueError(
          f'durations has no entry for ({task.kind}, {task.cell}), which task '
          f'{task} needs.'
        )
      duration = durations[task.kind, task.cell]
    else:
      duration = durations
    _check_time(f'The duration of task {task}', duration)
    return duration

  return duration_of


def _halved(
  durations: Mapping[tuple[task_lib.TaskKind, int], Time],
) -> dict[tuple[task_lib.TaskKind, int], Time]:
  """Durations in which weight gradients have some of their own."""
  halved = dict(durations)
  for (kind, cell), duration in durations.items():
    weights = task_lib.TaskKind.WEIGHT_GRADIENT, cell
    if kind == task_lib.TaskKind.BACKWARD and weights not in durations:
      exact = Fraction(duration) if isinstance(duration, int) else duration
      halved[kind, cell] = halved[weights] = exact / 2
  return halved


def _boundary_times(
  schedule: task_lib.Schedule, transfer_times: TransferTimes
) -> list[Time]:
  """The transfer time of each boundary, as the devices have it."""
  num_boundaries = schedule.num_cells - 1
  if transfer_times is None:
    times: list[Time] = [0] * num_boundaries
  elif isinstance(transfer_times, Sequence):
    times = list(transfer_times)
  else:
    times = [transfer_times] * num_boundaries
  if len(times) != num_boundaries:
    raise ValueError(
      f'transfer_times has {len(times)} entries; {schedule.num_cells} cells '
      f'have {num_boundaries} boundaries.'
    )
  for k, time in enumerate(times):
    _check_time(f'The transfer time from cell {k} to {k + 1}', time)
    if schedule.cell_devices[k] == schedule.cell_devices[k + 1]:
      times[k] = 0
  return times


def _check_time(what: str, time: Time) -> None:
  if not (math.isfinite(time) and time >= 0):
    raise ValueError(f'{what} is {time}; it must be finite and 0 or more.')


def _bubble(
  schedule: task_lib.Schedule, busy: list[Time], step_time: Time
) -> Fraction | float:
  """The idle share of the time of the devices that hold a cell."""
  total = step_time * len(set(schedule.cell_devices))
  idle = total - sum(busy)
  if not total:
    return Fraction(0)
  if isinstance(idle, float) or isinstance(total, float):
    # Rounding could leave a negative idle time where there is none.
    return max(0.0, float(idle) / float(total))
  return Fraction(idle) / Fraction(total)


def _critical_path(
  end: dict[task_lib.Task, Time],
  waited_for: dict[task_lib.Task, task_lib.Task],
) -> tuple[task_lib.Task, ...]:
  """Walks back from the last task to end over what each one waited for."""
  if not end:
    return ()
  task = max(end, key=lambda ended: end[ended])
  path = [task]
  while task in waited_for:
    task = waited_for[task]
    path.append(task)
  return tuple(reversed(path))
