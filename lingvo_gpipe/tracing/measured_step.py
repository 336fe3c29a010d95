# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""When the tasks of a schedule ran in one step: events mapped to tasks."""

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from lingvo_gpipe.schedules import Schedule, Task, TaskKind
from lingvo_gpipe.schedules.emitted import EmittedSchedule
from lingvo_gpipe.tracing import clocks
from lingvo_gpipe.tracing.events import (
  MemorySample,
  OpEvent,
  StepEvents,
  TraceError,
  process_of,
)

# A clock shift below this says nothing: events have microseconds.
_CLOCK_RESOLUTION = 2e-6


@dataclasses.dataclass(frozen=True)
class MeasuredStep:
  """One step of a pipeline. Times are in seconds; the first task starts at 0.

  Attributes:
    recompute: How much of a backward task went into running the forward pass
      again; tasks that did not are not there.
    arrival: When the result of the first task was there for the second one,
      for those that got it from another process.
    transfer_bytes: Bytes of results that went from process to process.
    others: Ops of the pipeline's devices that belong to no task.
    clock_shifts: What was added to the times of a process, where its clock
      could not be right.
    seconds: From when the client asked for the step to the end of its last op;
      what the client waits for then is the trace itself.
    before: How much of that was before the first task.
    memory: What its processes had, read time and again; none where they are on
      other machines.
  """

  schedule: Schedule
  devices: tuple[str, ...]
  start: Mapping[Task, float]
  end: Mapping[Task, float]
  recompute: Mapping[Task, float]
  arrival: Mapping[tuple[Task, Task], float]
  transfer_bytes: int
  others: tuple[OpEvent, ...]
  clock_shifts: Mapping[str, float]
  seconds: float
  before: float
  memory: tuple[MemorySample, ...] = ()

  @property
  def length(self) -> float:
    """From the start of the first task to the end of the last, in seconds."""
    return max(self.end.values())

  @property
  def after(self) -> float:
    """From the last task's end to that of the step's last op, in seconds."""
    return max(0.0, self.seconds - self.before - self.length)

  def duration(self, task: Task) -> float:
    """How long a task took, in seconds."""
    return self.end[task] - self.start[task]

  def device_of(self, task: Task) -> int:
    return self.schedule.cell_devices[task.cell]

  def arrived(self, needed: Task, task: Task) -> float:
    """When what `task` needs of `needed` was there for it."""
    return self.arrival.get((needed, task), self.end[needed])


def ran(emitted: EmittedSchedule, events: StepEvents) -> bool:
  """Whether a step ran any task of a pipeline."""
  return any(op.name in emitted.task_of_op for op in events.ops)


def measured_step(emitted: EmittedSchedule, events: StepEvents) -> MeasuredStep:
  """Finds the tasks among the events of a step.

  Raises:
    TraceError: A task that has an op is not among the events. Not if that is so
      of all backward tasks of a cell: TensorFlow leaves out what nobody needs,
      such as those of a first cell without weights.
  """
  found = _events_of_tasks(emitted, events)
  shifts = _clock_shifts(emitted, found)
  origin = min(
    op.start + shifts[process_of(op.device)] for op in found.values()
  )
  events = events.moved(shifts, -origin)
  own = [op for op in events.ops if op.device in emitted.devices]
  start, end, recompute = _times(emitted, own)
  _place_empty_tasks(emitted.schedule, start, end)
  return MeasuredStep(
    schedule=emitted.schedule,
    devices=_device_names(emitted),
    start=start,
    end=end,
    recompute=recompute,
    arrival=_arrivals(emitted, events, start, end),
    transfer_bytes=sum(
      transfer.num_bytes
      for transfer in events.transfers
      if transfer.op in emitted.task_of_op
    ),
    others=tuple(_outside(emitted, start, end, own)),
    clock_shifts={
      process: shift
      for process, shift in shifts.items()
      if abs(shift) > _CLOCK_RESOLUTION
    },
    seconds=max(op.end for op in events.ops) + origin,
    before=max(origin, 0.0),
    memory=events.memory,
  )


def _events_of_tasks(
  emitted: EmittedSchedule, events: StepEvents
) -> dict[Task, OpEvent]:
  """The event of each task; raises TraceError, see `measured_step`."""
  found = {
    emitted.task_of_op[op.name]: op
    for op in events.ops
    if op.name in emitted.task_of_op
  }
  ran_kinds = {(task.kind, task.cell) for task in found}
  missing = sorted(
    task
    for task in set(emitted.task_of_op.values()) - set(found)
    if (task.kind, task.cell) in ran_kinds or task.kind == TaskKind.FORWARD
  )
  if missing or not found:
    raise TraceError(
      'TensorFlow recorded no event of '
      + (f'task(s) {", ".join(map(str, missing))}.' if found else 'any task.')
    )
  return found


def _device_names(emitted: EmittedSchedule) -> tuple[str, ...]:
  schedule = emitted.schedule
  names = dict(zip(schedule.cell_devices, emitted.devices, strict=True))
  return tuple(names.get(device, '') for device in range(schedule.num_devices))


def _clock_shifts(
  emitted: EmittedSchedule, found: Mapping[Task, OpEvent]
) -> dict[str, float]:
  """What to add to the times of each process."""
  process = {
    task: process_of(emitted.devices[task.cell])
    for task in emitted.schedule.in_order()
  }
  messages = [
    clocks.Message(
      process[needed], found[needed].end, process[task], found[task].start
    )
    for task in found
    for needed in emitted.schedule.dependencies(task)
    if needed in found
  ]
  return clocks.align(
    list(dict.fromkeys(map(process_of, _device_names(emitted)))), messages
  )


def _place_empty_tasks(
  schedule: Schedule, start: dict[Task, float], end: dict[Task, float]
) -> None:
  """Tasks that have nothing to do take no time when they could have run."""
  last: dict[int, Task] = {}
  for task in schedule.in_order():
    device = schedule.cell_devices[task.cell]
    if task not in start:
      needed = [*schedule.dependencies(task)]
      if device in last:
        needed.append(last[device])
      start[task] = end[task] = max((end[n] for n in needed), default=0.0)
    last[device] = task


def _times(
  emitted: EmittedSchedule, ops: Sequence[OpEvent]
) -> tuple[dict[Task, float], dict[Task, float], dict[Task, float]]:
  """When tasks started and ended, and how long each recomputed."""
  start, end, recompute = {}, {}, {}
  for op in ops:
    task = emitted.task_of_op.get(op.name)
    if task is not None:
      start[task], end[task] = op.start, op.end
  for op in ops:
    task = emitted.recompute_of_op.get(op.name)
    if task in start:
      recompute[task] = op.end - op.start
      start[task] = op.start
  return start, end, recompute


def _outside(
  emitted: EmittedSchedule,
  start: Mapping[Task, float],
  end: Mapping[Task, float],
  ops: Sequence[OpEvent],
) -> Iterator[OpEvent]:
  """The ops that are in no task.

  Ops of a task's function bear names of the function's own, so it is their
  time that says whose they are: a device runs its tasks one by one.
  """
  by_device: dict[str, list[Task]] = {device: [] for device in emitted.devices}
  for task in sorted(start, key=lambda t: start[t]):
    by_device[emitted.devices[task.cell]].append(task)
  for op in ops:
    if op.name in emitted.task_of_op or op.name in emitted.recompute_of_op:
      continue
    tasks = by_device[op.device]
    at = bisect.bisect_right(tasks, op.start, key=lambda t: start[t]) - 1
    if at < 0 or op.start >= end[tasks[at]]:
      yield op


def _arrivals(
  emitted: EmittedSchedule,
  events: StepEvents,
  start: Mapping[Task, float],
  end: Mapping[Task, float],
) -> dict[tuple[Task, Task], float]:
  """When results were there for the tasks of other processes."""
  latest: dict[tuple[Task, str], float] = {}
  for transfer in events.transfers:
    if transfer.op in emitted.task_of_op:
      key = emitted.task_of_op[transfer.op], process_of(transfer.target)
      latest[key] = max(transfer.end, latest.get(key, transfer.end))
  arrival = {}
  for task in start:
    process = process_of(emitted.devices[task.cell])
    for needed in emitted.schedule.dependencies(task):
      came = latest.get((needed, process))
      if came is not None:
        # A value that a later task takes may come later than this one's.
        arrival[needed, task] = max(end[needed], min(came, start[task]))
  return arrival
