# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws schedules as text: one row a device, one column a time slot."""

from collections.abc import Sequence

from lingvo_gpipe.schedules.simulate import Time, Timeline, simulate
from lingvo_gpipe.schedules.task import Schedule, TaskKind

_IDLE = '.'
_GAP = '...'
_KIND_NAMES = {
  TaskKind.FORWARD: 'F forward',
  TaskKind.BACKWARD: 'B backward',
  TaskKind.WEIGHT_GRADIENT: 'W weight gradient',
}


def grid(
  schedule: Schedule, timeline: Timeline | None = None, *, max_width: int = 120
) -> str:
  """Draws a schedule that runs.

  ```
  1f1b: cells 2, devices 2, micro-batches 2 (F forward, B backward)
            0  1  2  3  4  5
  device 0 F0 F1  . B0  . B1
  device 1  . F0 B0 F1 B1  .
  ```

  Where cell k is the only one of device k, for all k, a task shows its
  micro-batch; otherwise its cell and its micro-batch, as in F0.3.

  Args:
    schedule: One that does not deadlock; `validate` draws others.
    timeline: When its tasks run; None lets each take one slot, and transfers
      no time. A column is as long as the shortest task, and shows the task that
      runs at its middle; a longer one goes on as '-'.
    max_width: Characters a line may have. Columns that do not fit are left
      out of the middle, and a last line says so.
  """
  timeline = timeline or simulate(schedule)
  lengths = [timeline.end[task] - timeline.start[task] for task in timeline.end]
  slot = min((length for length in lengths if length), default=1)
  with_cells = schedule.cell_devices != tuple(range(schedule.num_cells))
  rows = []
  for tasks in schedule.device_tasks:
    row: list[str] = []
    for task in tasks:
      # Columns whose middle lies in [start, end).
      first = _columns_before(timeline.start[task], slot)
      last = _columns_before(timeline.end[task], slot)
      row += [''] * (first - len(row))
      text = str(task) if with_cells else f'{task.kind.value}{task.micro_batch}'
      row += [text, *['-' * len(text)] * (last - first - 1)][: last - first]
    rows.append(row)
  kinds = ', '.join(
    _KIND_NAMES[kind] for kind in TaskKind if kind in schedule.kinds
  )
  title = (
    f'{schedule.name}: cells {schedule.num_cells}, devices '
    f'{schedule.num_devices}, micro-batches {schedule.num_micro_batches} '
    f'({kinds})'
  )
  if slot != 1:
    title += f', {slot} a column'
  return title + '\n' + draw(rows, max_width=max_width)


def _columns_before(time: Time, slot: Time) -> int:
  """How many columns have their middle before `time`."""
  # The smallest n with time <= (n + 1/2) slot; `//` is exact for exact numbers.
  return max(0, int(-((slot - 2 * time) // (2 * slot))))


def draw(
  rows: Sequence[Sequence[str]],
  *,
  focus: int | None = None,
  max_width: int = 120,
) -> str:
  """Draws a row of short texts for each device, with numbered columns.

  If not all columns fit into `max_width` characters those around column `focus`
  are shown; None leaves out the middle. In `rows` '' stands for nothing.
  """
  count = max(map(len, rows), default=0)
  numbers = list(map(str, range(count)))
  width = max(len(text) for row in (*rows, [*numbers, '0']) for text in row)
  margin = len(f'device {len(rows) - 1}')
  room = max(4, (max_width - margin - 2 * (len(_GAP) + 1)) // (width + 1))
  shown = list(range(count))
  if room < count and focus is None:
    shown[(room + 1) // 2 : count - room // 2] = []
  elif room < count and focus is not None:
    first = min(max(0, focus - room // 2), count - room)
    shown = shown[first : first + room]

  def line(label: str, texts: Sequence[str]) -> str:
    parts, next_column = [label.ljust(margin)], 0
    for column in shown:
      if column > next_column:
        parts.append(_GAP)
      text = texts[column] if column < len(texts) else ''
      parts.append((text or _IDLE).rjust(width))
      next_column = column + 1
    parts += [_GAP] * (next_column < count)
    return ' '.join(parts).rstrip()

  lines = [line('', numbers)]
  lines += [line(f'device {d}', row) for d, row in enumerate(rows)]
  if len(shown) < count:
    lines.append(
      f'({_GAP} stands for {count - len(shown)} of {count} columns that do not '
      f'fit into {max_width} characters)'
    )
  return '\n'.join(lines)
