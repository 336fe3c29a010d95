# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws schedules as text: one row a device, one column a time slot."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.simulate import Time, Timeline, simulate

DEFAULT_MAX_WIDTH = 120

_IDLE = '.'
_GAP = '...'
_KIND_NAMES = {
  task_lib.TaskKind.FORWARD: 'forward',
  task_lib.TaskKind.BACKWARD: 'backward',
  task_lib.TaskKind.WEIGHT_GRADIENT: 'weight gradient',
}


def grid(
  schedule: task_lib.Schedule,
  timeline: Timeline | None = None,
  *,
  slot: Time | None = None,
  max_width: int = DEFAULT_MAX_WIDTH,
) -> str:
  """Draws a schedule that runs.

  ```
  1f1b: cells 3, devices 3, micro-batches 4 (F forward, B backward)
            0  1  2  3  4  5  6  7  8  9 10 11
  device 0 F0 F1 F2  .  . B0 F3 B1  . B2  . B3
  device 1  . F0 F1  . B0 F2 B1 F3 B2  . B3  .
  device 2  .  . F0 B0 F1 B1 F2 B2 F3 B3  .  .
  ```

  Where cell k is the only one of device k, for all k, a task shows its
  micro-batch; otherwise its cell and its micro-batch, as in F0.3.

  Args:
    schedule: The schedule.
    timeline: When its tasks run; None lets each take one slot, and transfers
      no time. A task longer than a slot goes on as '-'.
    slot: How much of the timeline's time a column stands for; None takes the
      shortest duration in it. A column shows the task that runs at its middle,
      so tasks much shorter than a slot may not show.
    max_width: Characters a line may have. Columns that do not fit are left
      out of the middle, and a last line says so.

  Returns:
    Lines without trailing spaces or a trailing newline.

  Raises:
    ScheduleError: The schedule deadlocks; `validate` can draw it.
    ValueError: `slot` is not positive.
  """
  if timeline is None:
    timeline = simulate(schedule)
  if slot is None:
    slot = _shortest_duration(timeline)
  if slot <= 0:
    raise ValueError(f'slot is {slot}; it must be more than 0.')
  with_cells = schedule.cell_devices != tuple(range(schedule.num_cells))
  rows = [
    _timed_row(tasks, timeline, slot, with_cells)
    for tasks in schedule.device_tasks
  ]
  title = _title(schedule)
  if slot != 1:
    title += f', {slot} a column'
  labels = [f'device {device}' for device in range(schedule.num_devices)]
  return title + '\n' + draw(labels, rows, max_width=max_width)


def draw(
  labels: Sequence[str],
  rows: Sequence[Sequence[str]],
  *,
  focus: int | None = None,
  max_width: int = DEFAULT_MAX_WIDTH,
) -> str:
  """Draws rows of short texts as a table with numbered columns.

  Args:
    labels: The name of each row.
    rows: Each row's texts; '' stands for nothing. Rows may differ in length.
    focus: The column to show if not all of them fit; None leaves out the
      middle.
    max_width: Characters a line may have; a few columns are always shown.
  """
  num_columns = max((len(row) for row in rows), default=0)
  width = max(
    [len(text) for row in rows for text in row]
    + [len(str(max(num_columns - 1, 0)))]
  )
  label_width = max((len(label) for label in labels), default=0)
  room = max(4, (max_width - label_width - 2 * (len(_GAP) + 1)) // (width + 1))
  shown = _shown_columns(num_columns, room, focus)

  def line(label: str, texts: Sequence[str]) -> str:
    parts = [label.ljust(label_width)]
    for previous, column in zip([-1, *shown], shown, strict=False):
      if column > previous + 1:
        parts.append(_GAP)
      text = texts[column] if column < len(texts) else ''
      parts.append((text or _IDLE).rjust(width))
    if shown and shown[-1] < num_columns - 1:
      parts.append(_GAP)
    return ' '.join(parts).rstrip()

  lines = [line('', [str(column) for column in range(num_columns)])]
  lines += [line(*labelled) for labelled in zip(labels, rows, strict=True)]
  if len(shown) < num_columns:
    lines.append(
      f'({_GAP} stands for {num_columns - len(shown)} of {num_columns} columns '
      f'that do not fit into {max_width} characters)'
    )
  return '\n'.join(lines)


def _shown_columns(num_columns: int, room: int, focus: int | None) -> list[int]:
  """Which columns to draw, ascending, if there is room for only some."""
  if num_columns <= room:
    return list(range(num_columns))
  if focus is None:
    head = (room + 1) // 2
    tail = room - head
    return [*range(head), *range(num_columns - tail, num_columns)]
  first = min(max(0, focus - room // 2), num_columns - room)
  return list(range(first, first + room))


def _timed_row(
  tasks: Sequence[task_lib.Task],
  timeline: Timeline,
  slot: Time,
  with_cells: bool,
) -> list[str]:
  """The texts of a device's columns, up to the end of its last task."""
  row: list[str] = []
  for task in tasks:
    # Columns whose middle lies in [start, end).
    first = _columns_before(timeline.start[task], slot)
    last = _columns_before(timeline.end[task], slot)
    row += [''] * (first - len(row))
    text = str(task) if with_cells else f'{task.kind.value}{task.micro_batch}'
    row += [text, *['-' * len(text)] * (last - first - 1)][: last - first]
  return row


def _columns_before(time: Time, slot: Time) -> int:
  """How many columns have their middle before `time`."""
  # The smallest n with time <= (n + 1/2) slot; `//` is exact for exact numbers.
  return max(0, int(-((slot - 2 * time) // (2 * slot))))


def _shortest_duration(timeline: Timeline) -> Time:
  durations = [
    timeline.end[task] - timeline.start[task] for task in timeline.start
  ]
  return min((duration for duration in durations if duration > 0), default=1)


def _title(schedule: task_lib.Schedule) -> str:
  kinds = sorted(
    {task.kind for tasks in schedule.device_tasks for task in tasks}
  )
  key = ', '.join(f'{kind.value} {_KIND_NAMES[kind]}' for kind in kinds)
  return (
    f'{schedule.name}: cells {schedule.num_cells}, devices '
    f'{schedule.num_devices}, micro-batches {schedule.num_micro_batches} '
    f'({key})'
  )
