# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules whose weight gradients fill the bubble: ZB-H1 and ZB-V.

Qi et al., "Zero Bubble Pipeline Parallelism", arXiv:2401.10241. A backward
task (B) computes a cell's input gradients alone, for which the cell before
waits; its weight gradients (W) come later.
"""

from collections.abc import Mapping, Sequence

from lingvo_gpipe.schedules.slot_filling import Filler, in_flight_limits
from lingvo_gpipe.schedules.task import Rows, Task, TaskKind


def zb_h1(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """1F1B with the backward pass in two; section 2.1. K = 3, M = 4:

  ```
  device 0  F0 F1 F2  .  . B0 W0 F3 B1 W1 B2 W2 B3 W3
  device 1   . F0 F1  . B0 F2 B1 W0 F3 B2 W1 B3 W2 W3
  device 2   .  . F0 B0 F1 B1 F2 B2 W0 F3 B3 W1 W2 W3
  ```

  With M at least K the bubble is (K - 1)(F + B - W), where 1F1B has
  (K - 1)(F + B + W); a device stashes at most K micro-batches, as 1F1B's first.
  Where cells share devices backward tasks come as early as they can, and weight
  gradients where a device would wait or has no room.
  """
  num_cells = len(cell_devices)
  if len(set(cell_devices)) < num_cells:
    limits = in_flight_limits(cell_devices, num_micro_batches)
    sizes = cell_devices, num_micro_batches
    return Filler(*sizes, limits, first_backward, limits[0]).fill()
  rows: list[Sequence[Task]] = [()] * (max(cell_devices) + 1)
  for k, device in enumerate(cell_devices):
    row = _Row({'': k}, num_micro_batches)
    row.add('F', times=num_cells - k)
    row.add('B', 'F', times=k)
    row.add('B', 'W', 'F', times=num_micro_batches)
    rows[device] = row.tasks
  return rows


def zb_v(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """ZB-V: with equal tasks no device waits once it has begun; section 6.

  ```
  device 0   cell 0         cell 7       A micro-batch goes down the V and up
  device 1     cell 1     cell 6         again. So what a device stashes of its
  device 2       cell 2 cell 5           two cells adds up to about the same on
  device 3        cell 3 cell 4          every device.
  ```

  With F = B = W of one cell the step is K - 1 of these longer than the work;
  each device stashes at most 2 K micro-batches of one cell, as much memory as
  1F1B's K of cells twice as large.
  """
  num_devices = len(cell_devices) // 2
  # With fewer micro-batches the rule's counts do not add up.
  count = max(num_micro_batches, 2 * num_devices - 1)
  rows = []
  for k in range(num_devices):
    row = _Row({'a': k, 'b': 2 * num_devices - 1 - k}, count)
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
    rows.append([t for t in row.tasks if t.micro_batch < num_micro_batches])
  return rows


class _Row:
  """A device's tasks; 'Fa' is the next forward task of its cell a."""

  def __init__(self, cells: Mapping[str, int], num_micro_batches: int):
    self._cells = cells
    self._num_micro_batches = num_micro_batches
    self._counts: dict[str, int] = {}
    self.tasks: list[Task] = []

  def left(self, what: str) -> int:
    """How many of, say, 'Fa' are still to come."""
    return self._num_micro_batches - self._counts.get(what, 0)

  def add(self, *whats: str, times: int = 1) -> None:
    """Appends the next task of each, as often as told; none beyond the last."""
    for what in whats * times:
      if self.left(what):
        m = self._counts.get(what, 0)
        self.tasks.append(Task(TaskKind(what[0]), self._cells[what[1:]], m))
        self._counts[what] = m + 1
