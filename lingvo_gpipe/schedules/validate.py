# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that a schedule can run and keeps the rules all schedules keep."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from lingvo_gpipe.schedules.grid import draw
from lingvo_gpipe.schedules.task import Schedule, ScheduleError, Task, TaskKind

_MAX_FINDINGS = 8

# What is wrong, and what to mark: places (device, position), and tasks that a
# device lacks.
_Place: TypeAlias = tuple[int, int]
_Finding: TypeAlias = tuple[str, Iterable[_Place | Task]]


def validate(schedule: Schedule) -> None:
  """Checks a schedule.

  - Every cell's forward runs once for every micro-batch; so does its backward,
    from cell first_backward on, unless no cell has one; and its weight
    gradient, likewise.
  - Every task runs on the device of its cell.
  - A cell runs its tasks of one kind by ascending micro-batch: it adds up its
    weight gradients in this order, which decides their last bits.
  - No task waits for one that waits for it (deadlock).

  Raises ScheduleError with all that is wrong of the first kind in this list,
  and a grid in which tasks at fault are marked.
  """
  checks: tuple[Callable[[Schedule], Iterator[_Finding]], ...] = (
    _wrong_sizes, _wrong_tasks, _missing_tasks, _descending, _deadlock
  )  # fmt: skip
  for check in checks:
    findings = list(check(schedule))
    if findings:
      raise ScheduleError(_message(schedule, findings))


def _wrong_sizes(schedule: Schedule) -> Iterator[_Finding]:
  devices, num_devices = schedule.cell_devices, schedule.num_devices
  if (
    schedule.num_micro_batches < 1
    or not 0 <= schedule.first_backward < len(devices)
    or not all(0 <= device < num_devices for device in devices)
  ):
    yield (
      f'num_micro_batches is {schedule.num_micro_batches}, cell_devices is '
      f'{list(devices)}, first_backward is {schedule.first_backward}, and '
      f'device_tasks has {num_devices} rows. There must be a micro-batch, a '
      'row for the device of each cell, and first_backward must be a cell.',
      (),
    )


def _wrong_tasks(schedule: Schedule) -> Iterator[_Finding]:
  every, places = set(_all_tasks(schedule)), dict[Task, _Place]()
  for device, tasks in enumerate(schedule.device_tasks):
    for position, task in enumerate(tasks):
      here = device, position
      what = f'{task} on device {device}'
      if task not in every:
        yield (
          f'{what} is no task of this schedule. It has '
          f'{schedule.num_cells} cells and {schedule.num_micro_batches} '
          'micro-batches, counted from 0, and a backward pass from cell '
          f'{schedule.first_backward} on.',
          [here],
        )
      elif task in places:
        text = f'{what} runs a second time, after device {places[task][0]}.'
        yield text, [places[task], here]
      elif schedule.cell_devices[task.cell] != device:
        home = schedule.cell_devices[task.cell]
        yield f'{what}: cell {task.cell} is on device {home}.', [here]
      else:
        places[task] = here


def _missing_tasks(schedule: Schedule) -> Iterator[_Finding]:
  """Finds tasks that are missing; the others are known to be right."""
  if schedule.is_split and schedule.forward_only:
    yield 'There are weight-gradient tasks, but no backward tasks.', ()
  present = {task for row in schedule.device_tasks for task in row}
  missing = [task for task in _all_tasks(schedule) if task not in present]
  for (_, cell), group in itertools.groupby(
    missing, key=lambda task: (task.kind, task.cell)
  ):
    tasks = list(group)
    text = ', '.join(map(str, tasks[:4]))
    if len(tasks) > 4:
      text += f' and {len(tasks) - 4} more tasks of cell {cell}'
    yield f'Device {schedule.cell_devices[cell]} lacks {text}.', tasks


def _all_tasks(schedule: Schedule) -> Iterator[Task]:
  for kind in TaskKind:
    first = 0 if kind == TaskKind.FORWARD else schedule.first_backward
    if kind in schedule.kinds | {TaskKind.FORWARD}:
      for cell in range(first, schedule.num_cells):
        for m in range(schedule.num_micro_batches):
          yield Task(kind, cell, m)


def _descending(schedule: Schedule) -> Iterator[_Finding]:
  for device, tasks in enumerate(schedule.device_tasks):
    previous: dict[tuple[TaskKind, int], Task] = {}
    for position, task in enumerate(tasks):
      before = previous.get((task.kind, task.cell), task)
      if task.micro_batch < before.micro_batch:
        yield (
          f'{task} runs after {before}: a cell must run its tasks of one kind '
          'by ascending micro-batch.',
          [(device, position)],
        )
      previous[task.kind, task.cell] = task


def _deadlock(schedule: Schedule) -> Iterator[_Finding]:
  """Finds devices that wait for each other in a circle.

  ```
    device 0  F0.0 !B0.0  F0.1  B0.1     B0.0 waits for B1.0, which comes after
    device 1  F1.0 !F1.1  B1.0  B1.1     F1.1, which waits for F0.1, ...
  ```
  """
  done, devices = set(schedule.runs), schedule.cell_devices
  # For each device that waits: its next task, where it is, and what it needs.
  waits: dict[int, tuple[Task, int, Task]] = {}
  for device, tasks in enumerate(schedule.device_tasks):
    position = sum(task in done for task in tasks)
    if position < len(tasks):
      task = tasks[position]
      needed = next(t for t in schedule.dependencies(task) if t not in done)
      waits[device] = task, position, needed
  if not waits:
    return
  yield 'It deadlocks: these devices wait for each other.', ()
  device, circle = next(iter(waits)), dict[int, None]()
  for _ in waits:  # Now it is in the circle.
    device = devices[waits[device][2].cell]
  while device not in circle:
    circle[device] = None
    task, position, needed = waits[device]
    other = devices[needed.cell]
    where = f'which comes after {waits[other][0]} on device {other}'
    if needed == waits[other][0]:
      where = f'which is next on device {other}'
    yield (
      f'Device {device}: {task} needs {needed}, {where}.',
      [(device, position)],
    )
    device = other


def _message(schedule: Schedule, findings: list[_Finding]) -> str:
  rows = [list(map(str, tasks)) for tasks in schedule.device_tasks]
  marked = []
  for place in dict.fromkeys(place for _, marks in findings for place in marks):
    if isinstance(place, Task):
      row = rows[schedule.cell_devices[place.cell]]
      row.append(f'?{place}')
      marked.append(len(row) - 1)
    else:
      device, position = place
      rows[device][position] = f'!{rows[device][position]}'
      marked.append(position)
  lines = [f'- {text}' for text, _ in findings[:_MAX_FINDINGS]]
  if len(findings) > _MAX_FINDINGS:
    lines.append(f'- and {len(findings) - _MAX_FINDINGS} more like these.')
  return '\n'.join(
    [
      f'Schedule {schedule.name!r} is not valid.',
      *lines,
      'The tasks of each device in order; ! marks those at fault, ? those that '
      'are missing:',
      draw(rows, focus=min(marked, default=None)),
    ]
  )
