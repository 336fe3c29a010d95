# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPipe's schedule and 1F1B, whose tasks fill time slots; interleaved 1F1B.

The pipeline runs once on paper: time passes in slots, each task takes one, and
in each slot a device picks one of the tasks that could start. So no schedule
built here can deadlock, however the cells are placed on the devices.

Builders, here and elsewhere, take the device of each cell, M and the first cell
with backward tasks. The rows that they return may have some before it, too.
"""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe.schedules.task import Rows, Task, TaskKind, cells_of_devices

_FORWARD, _BACKWARD, _WEIGHT_GRADIENT = TaskKind


def gpipe(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """Every device runs all its forwards, then all its backwards.

  Huang et al., "GPipe: Efficient Training of Giant Neural Networks using
  Pipeline Parallelism", arXiv:1811.06965. K = 3, M = 4, one cell a device:

  ```
  device 0  F0 F1 F2 F3  .  .  .  . B0 B1 B2 B3
  device 1   . F0 F1 F2 F3  .  . B0 B1 B2 B3  .
  device 2   .  . F0 F1 F2 F3 B0 B1 B2 B3  .  .
  ```

  The paper's figure draws the backwards by descending micro-batch; the time is
  the same. All forwards come before all backwards, so the loss may be computed
  outside the pipeline. Each cell stashes all M micro-batches.
  """
  limits = [num_micro_batches] * len(cell_devices)
  sizes = cell_devices, num_micro_batches
  return Filler(*sizes, limits, first_backward, forwards_first=True).fill()


def one_f_one_b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """After a warm-up each device alternates one forward and one backward.

  Narayanan et al., "Efficient Large-Scale Language Model Training on GPU
  Clusters Using Megatron-LM", arXiv:2104.04473 (the schedule with flushes; it
  goes back to PipeDream-Flush, arXiv:2006.09503). K = 3, M = 4, one cell a
  device:

  ```
  device 0  F0 F1 F2  .  . B0 F3 B1  . B2  . B3
  device 1   . F0 F1  . B0 F2 B1 F3 B2  . B3  .
  device 2   .  . F0 B0 F1 B1 F2 B2 F3 B3  .  .
  ```

  It takes as long as GPipe's schedule, but cell k stashes at most
  min(M, K - k) micro-batches in place of M.
  """
  limits = in_flight_limits(cell_devices, num_micro_batches)
  return Filler(cell_devices, num_micro_batches, limits, first_backward).fill()


def interleaved_1f1b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int
) -> Rows:
  """1F1B over rounds: micro-batches pass the devices V times.

  Narayanan et al., arXiv:2104.04473, section 2.2. Micro-batches go in groups of
  about K: a group passes a device's first cell, then its second, and so on;
  then comes the next group. Two devices, two cells each, M = 4:

  ```
  device 0 F0.0 F0.1 F2.0 F2.1 F0.2    . F0.3 B2.0 ...
  device 1    . F1.0 F1.1 F3.0 B3.0 F3.1 B3.1 F1.2 ...
  ```

  With M at least K the bubble is (K - 1)(F + B) of one cell: a V-th of 1F1B's
  with cells V times as large. A device stashes at most
  (V - 1) G + 2 (K - 1 - k) + 1 micro-batches of one cell, for groups of G. M
  need not be a multiple of K.
  """
  num_devices = max(cell_devices) + 1
  # Larger groups first: a small one before a larger one would deadlock, as the
  # larger one's forwards would wait for backwards that come after them.
  num_groups = max(1, num_micro_batches // num_devices)
  least, larger = divmod(num_micro_batches, num_groups)
  sizes = [least + (group < larger) for group in range(num_groups)]
  rows = []
  for device, cells in enumerate(cells_of_devices(cell_devices)):
    forwards = _tasks(_FORWARD, cells, sizes)
    backwards = _tasks(_BACKWARD, cells[::-1], sizes)
    warm_up = (len(cells) - 1) * sizes[0] + 2 * (num_devices - 1 - device)
    warm_up = min(warm_up, len(forwards))
    row = forwards[:warm_up]
    for forward, backward in zip(forwards[warm_up:], backwards, strict=False):
      row += [forward, backward]
    rows.append(row + backwards[len(forwards) - warm_up :])
  return rows


def _tasks(
  kind: TaskKind, cells: Sequence[int], sizes: Sequence[int]
) -> list[Task]:
  """Group by group, then cell by cell."""
  tasks, start = [], 0
  for size in sizes:
    of_group = range(start, start + size)
    tasks += [Task(kind, cell, m) for cell in cells for m in of_group]
    start += size
  return tasks


def in_flight_limits(
  cell_devices: Sequence[int], num_micro_batches: int
) -> list[int]:
  """How many micro-batches each cell may hold between F and B under 1F1B.

  Cell k's limit is the smaller of M and the number of stretches of cells on
  one device from cell k to the last:

  ```
  cell       0  1  2  3        0  1  2  3        0  1  2  3
  device     0  1  2  3        0  0  1  1        0  1  0  1
  limit      4  3  2  1        2  2  1  1        4  3  2  1
  ```

  Neighbouring cells on one device cannot overlap: more would save no time.
  """
  limits: list[int] = []
  stretches, after = 0, None
  for device in reversed(cell_devices):
    stretches += device != after
    limits.append(min(num_micro_batches, stretches))
    after = device
  return limits[::-1]


@dataclasses.dataclass
class Filler:
  """One run of the pipeline on paper.

  Each cell runs its tasks of one kind by ascending micro-batch. So three
  counters a cell are all there is to know:

  ```
  micro-batch   0   1   2   3   4   5   6   7   8   9
                |-- done --|-- W left -|-- in flight --|-- not begun
                           ^           ^               ^
            weight_gradients[k]   backwards[k]   forwards[k]
  ```

  Attributes:
    in_flight: For each cell, how many micro-batches may be between F and B, at
      least 1. A cell without B is held back by the first that has some: what
      it made and nobody has used takes memory, too.
    first_backward: The first cell with backward tasks; K for none.
    most_stashed: How many micro-batches a cell may have between F and W, which
      then runs where nothing else can; 0: there are no W tasks.
    forwards_first: Whether a device runs all its forwards before its first
      backward, instead of preferring a backward wherever one can start.
  """

  cell_devices: Sequence[int]
  num_micro_batches: int
  in_flight: Sequence[int]
  first_backward: int
  most_stashed: int = 0
  forwards_first: bool = False

  def __post_init__(self) -> None:
    self._done = {kind: [0] * len(self.cell_devices) for kind in TaskKind}
    self._forwards, self._backwards, self._weight_gradients = (
      self._done.values()
    )

  def fill(self) -> Rows:
    of_devices = cells_of_devices(self.cell_devices)
    rows: list[list[Task]] = [[] for _ in of_devices]
    while True:
      # Every device chooses before any task counts as done: a task that needs
      # another cannot share its slot.
      chosen = list(map(self._choose, of_devices))
      if not any(chosen):
        return rows
      for row, task in zip(rows, chosen, strict=True):
        if task is not None:
          row.append(task)
          self._done[task.kind][task.cell] += 1

  def _choose(self, cells: list[int]) -> Task | None:
    """The task that the device that holds `cells` (ascending) runs next."""
    if not self.forwards_first or all(
      self._forwards[k] == self.num_micro_batches for k in cells
    ):
      for k in filter(self._can_go_backward, cells):
        return Task(_BACKWARD, k, self._backwards[k])
    # The deepest, because other devices wait for it, and because a micro-batch
    # that goes on leaves less in flight than one that begins.
    for k in filter(self._can_go_forward, reversed(cells)):
      return Task(_FORWARD, k, self._forwards[k])
    return self._oldest_weight_gradient(cells) if self.most_stashed else None

  def _can_go_forward(self, k: int) -> bool:
    m = self._forwards[k]
    if m == self.num_micro_batches or (k and self._forwards[k - 1] == m):
      return False
    if self.first_backward == len(self._backwards):
      return True
    if m - self._backwards[max(k, self.first_backward)] >= self.in_flight[k]:
      return False
    if not self.most_stashed or k < self.first_backward:
      return True
    return m - self._weight_gradients[k] < self.most_stashed

  def _can_go_backward(self, k: int) -> bool:
    m, last = self._backwards[k], len(self._backwards) - 1
    return (
      k >= self.first_backward
      and m < self._forwards[k]
      and (k == last or m < self._backwards[k + 1])
    )

  def _oldest_weight_gradient(self, cells: list[int]) -> Task | None:
    left = [
      Task(_WEIGHT_GRADIENT, k, self._weight_gradients[k])
      for k in reversed(cells)
      if self._weight_gradients[k] < self._backwards[k]
    ]
    return min(left, key=lambda task: task.micro_batch, default=None)
