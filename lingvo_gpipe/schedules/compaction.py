# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Moves tasks into the gaps of a schedule, without a higher peak."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib

_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT
_STASHED = {task_lib.TaskKind.FORWARD: 1, _BACKWARD: 0, _WEIGHT_GRADIENT: -1}

_Rows = list[list[task_lib.Task]]


def compact(
  rows: Sequence[Sequence[task_lib.Task]], cell_devices: Sequence[int]
) -> _Rows:
  """Runs tasks earlier where a device would wait.

  The rows run on paper, each task for one slot. Where a device's next task
  cannot start, the first task after it that can is moved to its place, unless
  the device would then stash more than the peak of all rows as given:

  ```
  before   F0 F1  .  . B0 W0 F2          after   F0 F1 F2  . B0 W0
  ```

  It is tried with and without letting backward tasks go before weight
  gradients, again and again as long as the last task ends sooner.

  Args:
    rows: Each device's tasks. They must not deadlock.
    cell_devices: The device of each cell.
  """
  limit = max(map(_peak, rows))
  best = [list(row) for row in rows]
  best_slots = None
  while True:
    tries = [
      _Compaction(best, len(cell_devices), limit, backward_first).run()
      for backward_first in (False, True)
    ]
    num_slots, better = min(tries, key=lambda found: found[0])
    if best_slots is not None and num_slots >= best_slots:
      return best
    best_slots, best = num_slots, better


class _Compaction:
  """One run of the rows on paper."""

  def __init__(
    self, rows: _Rows, num_cells: int, limit: int, backward_first: bool
  ):
    self._rows = [list(row) for row in rows]
    self._num_cells = num_cells
    self._limit = limit
    self._backward_first = backward_first
    self._positions = [0] * len(rows)
    self._counts = [0] * len(rows)
    self._done: set[task_lib.Task] = set()

  def run(self) -> tuple[int, _Rows]:
    """How many slots it takes, and the new rows."""
    num_slots = 0
    while any(map(self._left, range(len(self._rows)))):
      slot = [self._advance(device) for device in range(len(self._rows))]
      assert any(slot), 'The rows deadlock.'
      self._done.update(task for task in slot if task is not None)
      num_slots += 1
    return num_slots, self._rows

  def _left(self, device: int) -> bool:
    return self._positions[device] < len(self._rows[device])

  def _advance(self, device: int) -> task_lib.Task | None:
    """Runs a task of a device, at its place in the row."""
    place = self._next(device)
    if place is None:
      return None
    row, position = self._rows[device], self._positions[device]
    row.insert(position, row.pop(place))
    self._positions[device] += 1
    self._counts[device] += _STASHED[row[position].kind]
    return row[position]

  def _next(self, device: int) -> int | None:
    """Where in its row the task is that the device runs now."""
    row, position = self._rows[device], self._positions[device]
    seen: set[tuple[task_lib.TaskKind, int]] = set()
    weight_gradient = None
    # What the device would stash, at most, if it ran the tasks passed later.
    count = peak = self._counts[device]
    for place in range(position, len(row)):
      task = row[place]
      key = task.kind, task.cell
      if (
        key not in seen
        and peak + _STASHED[task.kind] <= self._limit
        and self._is_ready(task)
      ):
        if weight_gradient is not None:
          if task.kind == _BACKWARD:
            return place
        elif self._backward_first and task.kind == _WEIGHT_GRADIENT:
          weight_gradient = place
        else:
          return place
      seen.add(key)
      if len(seen) == 6:
        break
      count += _STASHED[task.kind]
      peak = max(peak, count)
    return weight_gradient

  def _is_ready(self, task: task_lib.Task) -> bool:
    return all(
      needed in self._done for needed in task_lib.needed(task, self._num_cells)
    )


def _peak(row: Sequence[task_lib.Task]) -> int:
  count = peak = 0
  for task in row:
    count += _STASHED[task.kind]
    peak = max(peak, count)
  return peak
