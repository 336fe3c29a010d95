# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""V-Half and V-Min: two cells a device, in a V, with less stash than 1F1B.

Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv:2405.15362. A
pattern of tasks repeats with every micro-batch; then gaps are filled.
"""

from collections.abc import Sequence

from lingvo_gpipe.schedules.task import Rows, Task, TaskKind, needed

_FORWARD, _BACKWARD, _WEIGHT_GRADIENT = TaskKind
_STASHED = {_FORWARD: 1, _BACKWARD: 0, _WEIGHT_GRADIENT: -1}
# F, B and W of two cells, one slot each.
_PERIOD = 6


def v_half(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """About half of 1F1B's stash.

  A device stashes at most (K + 2) // 2 micro-batches' worth of both its cells.
  """
  n = len(cell_devices) // 2
  s = 3 if n % 2 == 0 else 0
  slots = [
    (2 * i, 3 * n - i - 2, 3 * n + s + 2 * i - 1, 6 * n + s - i - 2)
    for i in range(n)
  ]
  return _repeated(slots, num_micro_batches)


def v_min(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """About a third of 1F1B's stash, the least there is for these cells.

  A device stashes at most (K + 4) // 3 micro-batches' worth of both its cells.
  Where F, B and W differ much the bubble grows with M.
  """
  n = len(cell_devices) // 2
  s = 2 if n % 3 == 0 else 0
  slots = [
    (i, 2 * n - i - 1, 2 * n + s + i, 4 * n + s - i - 1) for i in range(n)
  ]
  return _repeated(slots, num_micro_batches)


def _repeated(
  slots: Sequence[tuple[int, int, int, int]], num_micro_batches: int
) -> Rows:
  """The rows of a pattern that repeats with every micro-batch.

  `slots` are, for each device, when it runs F of its first cell, F of its
  second, B of its second and B of its first for micro-batch 0.
  """
  rows = []
  for first, offsets in enumerate(slots):
    second = 2 * len(slots) - 1 - first
    cells = (first, second, second, first)
    kinds = (_FORWARD, _FORWARD, _BACKWARD, _BACKWARD)
    placed = {
      offset + _PERIOD * m: Task(kind, cell, m)
      for m in range(num_micro_batches)
      for offset, kind, cell in zip(offsets, kinds, cells, strict=True)
    }
    # Each W takes the next slot that nothing else has.
    for slot in sorted(placed):
      task = placed[slot]
      if task.kind == _BACKWARD:
        while slot in placed:
          slot += 1
        placed[slot] = Task(_WEIGHT_GRADIENT, task.cell, task.micro_batch)
    rows.append([placed[slot] for slot in sorted(placed)])
  return _compact(rows)


def _compact(rows: list[list[Task]]) -> list[list[Task]]:
  """Runs tasks earlier where a device would wait.

  The rows run on paper, each task for one slot. Where a device's next task
  cannot start, the first task after it that can is moved to its place, unless
  the device would then stash more than the peak of all rows as given:

  ```
  before   F0 F1  .  . B0 W0 F2          after   F0 F1 F2  . B0 W0
  ```

  Backward tasks may go before weight gradients or not: both are tried, as long
  as the last task ends sooner.
  """
  limit, best_slots = max(map(_peak, rows)), None
  while True:
    tries = [_Run(rows, limit, first).run() for first in (False, True)]
    num_slots, better = min(tries, key=lambda found: found[0])
    if best_slots is not None and num_slots >= best_slots:
      return rows
    best_slots, rows = num_slots, better


def _peak(row: Sequence[Task]) -> int:
  count = peak = 0
  for task in row:
    count += _STASHED[task.kind]
    peak = max(peak, count)
  return peak


class _Run:
  def __init__(self, rows: Rows, limit: int, backward_first: bool):
    self._left = [list(row) for row in rows]
    self._limit = limit
    self._backward_first = backward_first
    self._stashed = [0] * len(rows)
    self._done: set[Task] = set()

  def run(self) -> tuple[int, list[list[Task]]]:
    """How many slots it takes, and the new rows."""
    num_slots = 0
    rows: list[list[Task]] = [[] for _ in self._left]
    while any(self._left):
      slot = [self._next(device) for device in range(len(rows))]
      assert any(slot), 'The rows deadlock.'
      for device, task in enumerate(slot):
        if task is not None:
          rows[device].append(task)
          self._left[device].remove(task)
          self._stashed[device] += _STASHED[task.kind]
          self._done.add(task)
      num_slots += 1
    return num_slots, rows

  def _next(self, device: int) -> Task | None:
    seen: set[tuple[TaskKind, int]] = set()
    weight_gradient = None
    # What the device would stash, at most, if it ran the tasks passed later.
    count = peak = self._stashed[device]
    for task in self._left[device]:
      stashed = _STASHED[task.kind]
      if (
        (task.kind, task.cell) not in seen
        and peak + stashed <= self._limit
        and self._done.issuperset(needed(task, 2 * len(self._left)))
      ):
        if task.kind == _WEIGHT_GRADIENT and self._backward_first:
          weight_gradient = weight_gradient or task
        elif weight_gradient is None or task.kind == _BACKWARD:
          return task
      seen.add((task.kind, task.cell))
      if len(seen) == 6:
        break
      count += stashed
      peak = max(peak, count)
    return weight_gradient
