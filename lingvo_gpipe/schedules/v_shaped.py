# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules with two cells a device, placed in a V.

```
  device 0   cell 0         cell 7
  device 1     cell 1     cell 6
  device 2       cell 2 cell 5
  device 3        cell 3 cell 4
```

A micro-batch goes down the V and up again, so the first device's two cells
begin and end each micro-batch, and the last device's two follow each other:
what a device stashes of its two cells adds up to about the same on every
device. The weight gradients (W) are tasks of their own.
"""

from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.compaction import compact
from lingvo_gpipe.schedules.row import Row

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


def zb_v(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """ZB-V: with equal tasks no device waits once it has begun.

  Qi et al., "Zero Bubble Pipeline Parallelism", arXiv:2401.10241, section 6.
  With F = B = W of one cell the step is K - 1 of these longer than the work;
  each device stashes at most 2 K micro-batches of one cell, as much memory as
  1F1B's K of cells twice as large.

  Args:
    cell_devices: Cells k and 2 K - 1 - k are on device k.
    num_micro_batches: M, at least 1.
    first_backward: The first cell with backward tasks.
  """
  num_devices = len(cell_devices) // 2
  # With fewer micro-batches the rule's counts do not add up.
  count = max(num_micro_batches, 2 * num_devices - 1)
  rows = [_zb_v_row(k, num_devices, count) for k in range(num_devices)]
  rows = [[t for t in row if t.micro_batch < num_micro_batches] for row in rows]
  return _schedule(
    'zb_v', cell_devices, num_micro_batches, rows, first_backward
  )


def _zb_v_row(k: int, num_devices: int, count: int) -> list[task_lib.Task]:
  """The tasks of device k, with a its first cell and b its second."""
  row = Row({'a': k, 'b': 2 * num_devices - 1 - k}, count)
  after = num_devices - k
  row.add('Fa', times=2 * after - 1)
  row.add('Fb', 'Fa', times=k)
  row.add('Fb', 'Bb', 'Wb', times=after)
  while row.left('Fb'):
    row.add('Fa', 'Ba', 'Wa', 'Fb', 'Bb', 'Wb')
  row.add('Ba', 'Bb', times=k)
  row.add('Ba', 'Wa', times=after)
  row.add('Wb', times=count)
  row.add('Wa', times=count)
  return row.tasks


def v_half(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """V-Half: about half of 1F1B's stash.

  Qi et al., "Pipeline Parallelism with Controllable Memory", arXiv:2405.15362.
  A device stashes at most (K + 2) // 2 micro-batches' worth of both its cells.

  Args:
    cell_devices: Cells k and 2 K - 1 - k are on device k.
    num_micro_batches: M, at least 1.
    first_backward: The first cell with backward tasks.
  """
  n = len(cell_devices) // 2
  s = 3 if n % 2 == 0 else 0
  slots = [
    (2 * i, 3 * n - i - 2, 3 * n + s + 2 * i - 1, 6 * n + s - i - 2)
    for i in range(n)
  ]
  rows = _repeated(slots, num_micro_batches)
  return _schedule(
    'v_half', cell_devices, num_micro_batches, rows, first_backward
  )


def v_min(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """V-Min: about a third of 1F1B's stash, the least there is for these cells.

  Source and arguments as for `v_half`. A device stashes at most (K + 4) // 3
  micro-batches' worth of both its cells. Where F, B and W differ much the
  bubble grows with M.
  """
  n = len(cell_devices) // 2
  s = 2 if n % 3 == 0 else 0
  slots = [
    (i, 2 * n - i - 1, 2 * n + s + i, 4 * n + s - i - 1) for i in range(n)
  ]
  rows = _repeated(slots, num_micro_batches)
  return _schedule(
    'v_min', cell_devices, num_micro_batches, rows, first_backward
  )


# F, B and W of two cells, one slot each.
_PERIOD = 6


def _repeated(
  slots: Sequence[tuple[int, int, int, int]], num_micro_batches: int
) -> list[list[task_lib.Task]]:
  """The rows of a pattern that repeats with every micro-batch.

  Args:
    slots: For each device, when it runs F of its first cell, F of its second, B
      of its second and B of its first for micro-batch 0.
    num_micro_batches: M.
  """
  rows = []
  for k, offsets in enumerate(slots):
    first, second = k, 2 * len(slots) - 1 - k
    kinds = (
      (_FORWARD, first),
      (_FORWARD, second),
      (_BACKWARD, second),
      (_BACKWARD, first),
    )
    placed = {
      offset + _PERIOD * m: task_lib.Task(kind, cell, m)
      for m in range(num_micro_batches)
      for offset, (kind, cell) in zip(offsets, kinds, strict=True)
    }
    # Each W takes the next slot that nothing else has.
    for slot, task in sorted(placed.items()):
      if task.kind == _BACKWARD:
        while slot in placed:
          slot += 1
        placed[slot] = task_lib.Task(
          _WEIGHT_GRADIENT, task.cell, task.micro_batch
        )
    rows.append([task for _, task in sorted(placed.items())])
  cell_devices = [*range(len(slots)), *reversed(range(len(slots)))]
  return compact(rows, cell_devices)


def _schedule(
  name: str,
  cell_devices: Sequence[int],
  num_micro_batches: int,
  rows: Sequence[Sequence[task_lib.Task]],
  first_backward: int,
) -> task_lib.Schedule:
  return task_lib.Schedule(
    name,
    num_micro_batches,
    tuple(cell_devices),
    task_lib.without_frozen(rows, first_backward),
    first_backward,
  )
