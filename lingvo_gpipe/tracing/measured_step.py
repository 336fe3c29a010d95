# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""When the tasks of a schedule ran in one step: events mapped to tasks."""

import bisect
import dataclasses
from collections.abc import Mapping, Sequence

from lingvo_gpipe.schedules import Schedule, Task, TaskKind
from lingvo_gpipe.schedules.emitted import EmittedSchedule
from lingvo_gpipe.tracing import clocks
from lingvo_gpipe.tracing.events import (
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
    schedule: The schedule that ran.
    devices: The name of each device.
    start: When each task started.
    end: When each task ended.
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

  @property
  def length(self) -> float:
    """From the start of the first task to the end of the last, in seconds."""
    return max(self.end.values())

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

  Args:
    emitted: What the graph has of the pipeline.
    events: The step.

  Raises:
    TraceError: A task that has an op is not among the events. Not if that is so
      of all backward tasks of a cell: TensorFlow leaves out what nobody needs,
      such as those of a first cell without weights.
  """
  found = _events_of_tasks(emitted, events)
  devices = _device_names(emitted)
  shifts = _clock_shifts(emitted.schedule, devices, found)
  aligned = {
    task: op.start + shifts[process_of(op.device)] for task, op in found.items()
  }
  origin = min(aligned.values())
  ops = _moved(events.ops, devices, shifts, origin)
  start, end, recompute = _times(emitted, ops)
  _place_empty_tasks(emitted.schedule, start, end)
  others = _outside(emitted, devices, start, end, ops)
  return MeasuredStep(
    schedule=emitted.schedule,
    devices=devices,
    start=start,
    end=end,
    recompute=recompute,
    arrival=_arrivals(emitted, events, shifts, origin, start, end),
    transfer_bytes=sum(
      transfer.num_bytes
      for transfer in events.transfers
      if transfer.op in emitted.task_of_op
    ),
    others=tuple(others),
    clock_shifts={
      process: shift
      for process, shift in shifts.items()
      if abs(shift) > _CLOCK_RESOLUTION
    },
    seconds=_last_end(events, shifts),
    before=max(origin, 0.0),
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


def _last_end(events: StepEvents, shifts: Mapping[str, float]) -> float:
  return max(
    op.end + shifts.get(process_of(op.device), 0.0) for op in events.ops
  )


def _moved(
  ops: Sequence[OpEvent],
  devices: Sequence[str],
  shifts: Mapping[str, float],
  origin: float,
) -> list[OpEvent]:
  """The ops of the pipeline's devices, in times after `origin`."""
  moved = []
  for op in ops:
    if op.device in devices:
      shift = shifts[process_of(op.device)] - origin
      moved.append(
        dataclasses.replace(op, start=op.start + shift, end=op.end + shift)
      )
  return moved


def _device_names(emitted: EmittedSchedule) -> tuple[str, ...]:
  names = [''] * emitted.schedule.num_devices
  for name, device in zip(
    emitted.devices, emitted.schedule.cell_devices, strict=True
  ):
    names[device] = name
  return tuple(names)


def _clock_shifts(
  schedule: Schedule, devices: Sequence[str], found: Mapping[Task, OpEvent]
) -> dict[str, float]:
  processes = list(dict.fromkeys(map(process_of, devices)))
  if len(processes) == 1:
    return {processes[0]: 0.0}

  def process(task: Task) -> str:
    return process_of(devices[schedule.cell_devices[task.cell]])

  messages = [
    clocks.Message(
      process(needed), found[needed].end, process(task), found[task].start
    )
    for task in found
    for needed in schedule.dependencies(task)
    if needed in found
  ]
  return clocks.align(processes, messages)


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
  devices: Sequence[str],
  start: Mapping[Task, float],
  end: Mapping[Task, float],
  ops: Sequence[OpEvent],
) -> list[OpEvent]:
  """The ops that are in no task.

  Ops of a task's function bear names of the function's own, so it is their
  time that says whose they are: a device runs its tasks one by one.
  """
  by_device: dict[str, list[Task]] = {device: [] for device in devices}
  for task in sorted(start, key=lambda t: start[t]):
    by_device[devices[emitted.schedule.cell_devices[task.cell]]].append(task)
  starts = {d: [start[t] for t in tasks] for d, tasks in by_device.items()}
  outside = []
  for op in ops:
    if op.name in emitted.task_of_op or op.name in emitted.recompute_of_op:
      continue
    at = bisect.bisect_right(starts[op.device], op.start) - 1
    inside = by_device[op.device][at] if at >= 0 else None
    if inside is None or op.start >= end[inside]:
      outside.append(op)
  return outside


def _arrivals(
  emitted: EmittedSchedule,
  events: StepEvents,
  shifts: Mapping[str, float],
  origin: float,
  start: Mapping[Task, float],
  end: Mapping[Task, float],
) -> dict[tuple[Task, Task], float]:
  """When results were there for the tasks of other processes."""
  latest: dict[tuple[Task, str], float] = {}
  for transfer in events.transfers:
    task = emitted.task_of_op.get(transfer.op)
    if task is not None:
      key = (task, process_of(transfer.target))
      shift = shifts.get(key[1], 0.0)
      end_time = transfer.end + shift - origin
      latest[key] = max(end_time, latest.get(key, end_time))
  arrival = {}
  for task in start:
    process = process_of(emitted.devices[task.cell])
    for needed in emitted.schedule.dependencies(task):
      came = latest.get((needed, process))
      if came is not None:
        # A value that a later task takes may come later than this one's.
        arrival[needed, task] = max(end[needed], min(came, start[task]))
  return arrival
