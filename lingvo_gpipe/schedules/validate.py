# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that a schedule can run and keeps the rules all schedules keep."""

import collections
from collections.abc import Iterable, Mapping, Sequence

from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.grid import draw

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT
_MARK = '!'
_MISSING = '?'
_MAX_FINDINGS = 8

# A task's place: (device, position in the device's row).
_Place = tuple[int, int]


def validate(schedule: task_lib.Schedule) -> None:
  """Checks a schedule.

  - Every cell's forward runs once for every micro-batch; so does its backward,
    from cell first_backward on, unless no cell has one; and its weight
    gradient, likewise.
  - Every task runs on the device of its cell.
  - A cell runs its tasks of one kind by ascending micro-batch. It adds up its
    weight gradients in this order, so the order decides their last bits, and
    all schedules must have the same.
  - No task waits for one that waits for it (deadlock).

  Raises:
    ScheduleError: With all that is wrong of the first kind in this list, and
      the schedule as a grid in which the tasks at fault are marked '!', and
      those that are missing '?'.
  """
  _check_shape(schedule)
  _check_places(schedule)
  _check_complete(schedule)
  _check_ascending(schedule)
  _check_no_deadlock(schedule)


def _check_shape(schedule: task_lib.Schedule) -> None:
  """Checks the numbers that the other checks count on."""
  findings = []
  if schedule.num_micro_batches < 1:
    findings.append(
      f'num_micro_batches is {schedule.num_micro_batches}; it must be 1 or '
      'more.'
    )
  if not schedule.cell_devices:
    findings.append('cell_devices is empty; there must be at least one cell.')
  elif not 0 <= schedule.first_backward < schedule.num_cells:
    findings.append(
      f'first_backward is {schedule.first_backward}; it must be one of the '
      f'cells 0 to {schedule.num_cells - 1}.'
    )
  for cell, device in enumerate(schedule.cell_devices):
    if not 0 <= device < schedule.num_devices:
      findings.append(
        f'Cell {cell} is on device {device}, but device_tasks has rows for '
        f'{schedule.num_devices} devices.'
      )
  if findings:
    raise _error(schedule, findings, [])


def _check_places(schedule: task_lib.Schedule) -> None:
  """Checks that each task there is exists once, and on the right device."""
  findings = []
  marks = []
  places: dict[task_lib.Task, _Place] = {}
  for device, tasks in enumerate(schedule.device_tasks):
    for position, task in enumerate(tasks):
      if not (
        0 <= task.cell < schedule.num_cells
        and 0 <= task.micro_batch < schedule.num_micro_batches
      ):
        findings.append(
          f'{task} on device {device} names a cell or micro-batch that does '
          f'not exist: there are {schedule.num_cells} cells and '
          f'{schedule.num_micro_batches} micro-batches, counted from 0.'
        )
      elif task in places:
        findings.append(
          f'{task} runs twice: on device {places[task][0]} and on device '
          f'{device}.'
        )
        marks.append(places[task])
      elif task.kind != _FORWARD and task.cell < schedule.first_backward:
        findings.append(
          f'{task} is a task of cell {task.cell}, which has no backward pass: '
          f'first_backward is {schedule.first_backward}.'
        )
      elif schedule.cell_devices[task.cell] != device:
        findings.append(
          f'{task} runs on device {device}, but cell {task.cell} is on device '
          f'{schedule.cell_devices[task.cell]}.'
        )
      else:
        places[task] = (device, position)
        continue
      marks.append((device, position))
  if findings:
    raise _error(schedule, findings, marks)


def _check_complete(schedule: task_lib.Schedule) -> None:
  """Checks that no task is missing; `_check_places` has seen the others."""
  present = {task for tasks in schedule.device_tasks for task in tasks}
  kinds = {task.kind for task in present} | {_FORWARD}
  findings = []
  absent: dict[int, list[task_lib.Task]] = collections.defaultdict(list)
  if _WEIGHT_GRADIENT in kinds and _BACKWARD not in kinds:
    findings.append('There are weight-gradient tasks, but no backward tasks.')
  for kind in sorted(kinds):
    for cell, device in enumerate(schedule.cell_devices):
      if kind != _FORWARD and cell < schedule.first_backward:
        continue
      missing = [
        m
        for m in range(schedule.num_micro_batches)
        if task_lib.Task(kind, cell, m) not in present
      ]
      absent[device] += [task_lib.Task(kind, cell, m) for m in missing]
      if missing:
        findings.append(
          f'Device {device} lacks {_tasks_text(kind, cell, missing)}.'
        )
  if findings:
    raise _error(schedule, findings, [], absent)


def _check_ascending(schedule: task_lib.Schedule) -> None:
  findings = []
  marks = []
  for device, tasks in enumerate(schedule.device_tasks):
    previous: dict[tuple[task_lib.TaskKind, int], int] = {}
    for position, task in enumerate(tasks):
      before = previous.get((task.kind, task.cell), -1)
      if task.micro_batch < before:
        findings.append(
          f'{task} runs after {task.kind.value}{task.cell}.{before}: a cell '
          'must run its tasks of one kind by ascending micro-batch.'
        )
        marks.append((device, position))
      previous[task.kind, task.cell] = task.micro_batch
  if findings:
    raise _error(schedule, findings, marks)


def _check_no_deadlock(schedule: task_lib.Schedule) -> None:
  """Checks that the schedule runs to its end; no task is missing by now."""
  slots = schedule.in_slots()
  done = {task for slot in slots for task in slot}
  positions = [
    sum(task in done for task in tasks) for tasks in schedule.device_tasks
  ]
  places = {
    task: (device, position)
    for device, tasks in enumerate(schedule.device_tasks)
    for position, task in enumerate(tasks)
  }
  findings = []
  stuck = []
  for device, tasks in enumerate(schedule.device_tasks):
    if positions[device] == len(tasks):
      continue
    task = tasks[positions[device]]
    stuck.append((device, task))
    for needed in schedule.dependencies(task):
      if needed not in done:
        where, position = places[needed]
        behind = schedule.device_tasks[where][positions[where]]
        reason = 'which is next there but cannot start either'
        if position > positions[where]:
          reason = f'which comes only after {behind} there'
        findings.append(
          f'Device {device} is to run {task}, which needs {needed} of device '
          f'{where}, {reason}.'
        )
  if stuck:
    raise task_lib.ScheduleError(
      _message(
        f'deadlocks in slot {len(slots)}: no device can go on',
        schedule,
        findings,
      )
      + _deadlock_grid(schedule, slots, stuck)
    )


def _deadlock_grid(
  schedule: task_lib.Schedule,
  slots: Sequence[Sequence[task_lib.Task]],
  stuck: Iterable[tuple[int, task_lib.Task]],
) -> str:
  """The slots that ran, then the tasks that cannot start."""
  rows: list[list[str]] = [[] for _ in schedule.device_tasks]
  for column, slot in enumerate(slots):
    for task in slot:
      row = rows[schedule.cell_devices[task.cell]]
      row += [''] * (column - len(row)) + [str(task)]
  for device, task in stuck:
    row = rows[device]
    row += [''] * (len(slots) - len(row)) + [_MARK + str(task)]
  return (
    f'One column a time slot; {_MARK} marks tasks that cannot start:\n'
    + draw(_labels(schedule), rows, focus=len(slots))
  )


def _error(
  schedule: task_lib.Schedule,
  findings: Sequence[str],
  marks: Iterable[_Place],
  absent: Mapping[int, Sequence[task_lib.Task]] | None = None,
) -> task_lib.ScheduleError:
  """An error with a grid of the rows, and what each device lacks."""
  marked = collections.defaultdict(set)
  for device, position in marks:
    marked[device].add(position)
  rows = [
    [
      (_MARK if position in marked[device] else '') + str(task)
      for position, task in enumerate(tasks)
    ]
    for device, tasks in enumerate(schedule.device_tasks)
  ]
  positions = set().union(*marked.values())
  key = f'; {_MARK} marks tasks at fault' if positions else ''
  for device, tasks in (absent or {}).items():
    if tasks:
      positions.add(len(rows[device]))
      rows[device] += [f'{_MISSING}{task}' for task in tasks]
      key = f'; {_MISSING} marks tasks that are missing'
  return task_lib.ScheduleError(
    _message('is not valid', schedule, findings)
    + f'One column a place in the order of the device{key}:\n'
    + draw(_labels(schedule), rows, focus=min(positions, default=None))
  )


def _message(
  what: str, schedule: task_lib.Schedule, findings: Sequence[str]
) -> str:
  shown = [f'- {finding}\n' for finding in findings[:_MAX_FINDINGS]]
  if len(findings) > _MAX_FINDINGS:
    shown.append(f'- and {len(findings) - _MAX_FINDINGS} more like these.\n')
  return f'Schedule {schedule.name!r} {what}.\n' + ''.join(shown)


def _labels(schedule: task_lib.Schedule) -> list[str]:
  return [f'device {device}' for device in range(schedule.num_devices)]


def _tasks_text(
  kind: task_lib.TaskKind, cell: int, micro_batches: Sequence[int]
) -> str:
  """For example 'B1.0, B1.1 and 14 more tasks of cell 1'."""
  tasks = [str(task_lib.Task(kind, cell, m)) for m in micro_batches[:4]]
  text = ', '.join(tasks)
  if len(micro_batches) > 4:
    text += f' and {len(micro_batches) - 4} more tasks of cell {cell}'
  return text
