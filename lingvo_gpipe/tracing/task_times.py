# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds a pipeline's tasks among the events of a step."""

import math
from collections.abc import Iterable, Mapping

from lingvo_gpipe.schedules import Task, TaskKind
from lingvo_gpipe.schedules.task import EmittedSchedule
from lingvo_gpipe.tracing.events import Op, StepEvents, process_of
from lingvo_gpipe.tracing.measured_step import MeasuredStep

# A clock shift below this says nothing: events have microseconds.
_CLOCK_RESOLUTION = 2e-6

_Times = dict[Task, float]


def measured_step(
  emitted: EmittedSchedule, events: StepEvents
) -> MeasuredStep | None:
  """The times of a pipeline's tasks in a step; None if it ran none of them.

  RuntimeError if a task that has an op is not among the events; not if no
  backward task of its cell is: TensorFlow leaves out what nobody needs.
  """
  tasks = _ops_of(emitted.task_of_op, events)
  if not tasks:
    return None
  _check(emitted, tasks)
  shifts = aligned(
    dict.fromkeys(map(process_of, emitted.devices)),
    _least_shifts(emitted, tasks),
  )
  origin = min(
    op.start + shifts[process_of(op.device)] for op in tasks.values()
  )
  events = events.moved(shifts, -origin)
  tasks = _ops_of(emitted.task_of_op, events)
  again = _ops_of(emitted.recompute_of_op, events)
  start = {task: again.get(task, op).start for task, op in tasks.items()}
  end = {task: op.end for task, op in tasks.items()}
  _place_empty_tasks(emitted, start, end)
  schedule = emitted.schedule
  devices = dict(zip(schedule.cell_devices, emitted.devices, strict=True))
  return MeasuredStep(
    schedule=schedule,
    devices=tuple(devices.get(d, '') for d in range(schedule.num_devices)),
    start=start,
    end=end,
    recompute={
      task: op.end - op.start for task, op in again.items() if task in tasks
    },
    arrival=_arrivals(emitted, events, start, end),
    clock_shifts={
      process: shift
      for process, shift in shifts.items()
      if abs(shift) > _CLOCK_RESOLUTION
    },
    seconds=max(op.end for op in events.ops) + origin,
    before=max(origin, 0.0),
    memory=events.memory,
  )


def _ops_of(names: Mapping[str, Task], events: StepEvents) -> dict[Task, Op]:
  return {names[op.name]: op for op in events.ops if op.name in names}


def _check(emitted: EmittedSchedule, found: Mapping[Task, Op]) -> None:
  ran_kinds = {(task.kind, task.cell) for task in found}
  missing = [
    task
    for task in dict.fromkeys(emitted.task_of_op.values())
    if task not in found
    if (task.kind, task.cell) in ran_kinds or task.kind == TaskKind.FORWARD
  ]
  if missing:
    tasks = ', '.join(map(str, missing))
    raise RuntimeError(f'TensorFlow recorded no event of task(s) {tasks}.')


def _least_shifts(
  emitted: EmittedSchedule, tasks: Mapping[Task, Op]
) -> dict[tuple[str, str], float]:
  """By how much one process's clock must be put forward after another's.

  Clocks of two machines may differ by as much as a task takes, but no task
  starts before the results that it needs:

  ```
    clock of A   --[ F0 ]............................[ B0 ]--
                        \\                          /
    clock of B   --------->[ F1 ][ B1 ]-----------'

    end of F0 on A <= start of F1 on B + shift     (forward: not less)
    end of B1 on B + shift <= start of B0 on A     (backward: nor more)
  ```
  """
  least: dict[tuple[str, str], float] = {}
  for task, op in tasks.items():
    for needed in emitted.schedule.dependencies(task):
      if needed in tasks:
        made = tasks[needed]
        pair = process_of(made.device), process_of(op.device)
        least[pair] = max(made.end - op.start, least.get(pair, -math.inf))
  return least


def aligned(
  processes: Iterable[str], least: Mapping[tuple[str, str], float]
) -> dict[str, float]:
  """The seconds to add to the times of each process.

  For (a, b), `least` is what the shift of b must exceed that of a by. A clock
  that could be right is left as it is, as are the first one and those of which
  nothing is known. Else it is set to the middle of what is possible, as if
  messages took equally long both ways.
  """
  shifts = dict.fromkeys(processes, 0.0)
  known, waiting = list(shifts)[:1], list(shifts)[1:]
  for a in known:  # It grows on the way.
    for b in [b for b in waiting if (a, b) in least or (b, a) in least]:
      low = shifts[a] + least.get((a, b), -math.inf)
      high = shifts[a] - least.get((b, a), -math.inf)
      if low <= 0 <= high or math.isinf(high - low):
        shifts[b] = min(max(0.0, low), high)
      else:
        shifts[b] = (low + high) / 2
      known.append(b)
      waiting.remove(b)
  return shifts


def _place_empty_tasks(
  emitted: EmittedSchedule, start: _Times, end: _Times
) -> None:
  """Puts tasks with nothing to do where they could have run, for no time."""
  schedule = emitted.schedule
  last: dict[int, Task] = {}
  for task in schedule.in_order():
    device = schedule.cell_devices[task.cell]
    if task not in start:
      needed = [*schedule.dependencies(task)]
      if device in last:
        needed.append(last[device])
      start[task] = end[task] = max((end[n] for n in needed), default=0.0)
    last[device] = task


def _arrivals(
  emitted: EmittedSchedule, events: StepEvents, start: _Times, end: _Times
) -> dict[tuple[Task, Task], float]:
  latest: dict[tuple[Task, str], float] = {}
  for transfer in events.transfers:
    if transfer.op in emitted.task_of_op:
      key = emitted.task_of_op[transfer.op], process_of(transfer.device)
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
