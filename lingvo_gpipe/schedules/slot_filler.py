# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds schedules by letting equally long tasks fill time slots.

The order in which a device runs its tasks is found by running the pipeline
once on paper: time passes in slots, each task takes one, and in each slot a
device picks one of the tasks that could start. Each device's row is what it
picked. Because the rows come from one complete run, no schedule built here can
deadlock, however the cells are placed on the devices.
"""

from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


class SlotFiller:
  """One run of the pipeline on paper.

  Each cell runs its tasks of one kind by ascending micro-batch. So three
  counters a cell are all there is to know:

  ```
  micro-batch   0   1   2   3   4   5   6   7   8   9
                |-- done --|-- W left -|-- in flight --|-- not begun
                           ^           ^               ^
            weight_gradients[k]   backwards[k]   forwards[k]
  ```
  """

  def __init__(
    self,
    cell_devices: Sequence[int],
    num_micro_batches: int,
    in_flight_limits: Sequence[int],
    forwards_first: bool,
    first_backward: int,
    stash_limits: Sequence[int] | None = None,
  ):
    """Sets up the run.

    Args:
      cell_devices: The device of each cell.
      num_micro_batches: M.
      in_flight_limits: For each cell, how many micro-batches may be between
        the start of its forward and the end of its backward. At least 1. A
        cell without backwards is held back by those of the first that has some:
        what it made and nobody has used takes memory, too.
      forwards_first: Whether a device runs all its forwards before its first
        backward, instead of preferring a backward wherever one can start.
      first_backward: The first cell with backward tasks; K for none.
      stash_limits: For each cell, how many micro-batches may be between the
        start of its forward and the end of its weight gradient, which is then
        a task of its own and runs where no other can; None where backward
        tasks compute it.
    """
    num_cells = len(cell_devices)
    self._num_micro_batches = num_micro_batches
    self._limits = in_flight_limits
    self._forwards_first = forwards_first
    self._first_backward = first_backward
    self._forwards = [0] * num_cells
    self._backwards = [0] * num_cells
    self._weight_gradients = [0] * num_cells
    self._stash_limits = stash_limits
    self._device_cells: list[list[int]] = [
      [] for _ in range(max(cell_devices) + 1)
    ]
    for cell, device in enumerate(cell_devices):
      self._device_cells[device].append(cell)

  def fill(self) -> tuple[tuple[task_lib.Task, ...], ...]:
    """Runs the pipeline and returns each device's tasks in order."""
    rows: list[list[task_lib.Task]] = [[] for _ in self._device_cells]
    num_cells = len(self._forwards)
    num_backwards = num_cells - self._first_backward
    is_split = self._stash_limits is not None
    num_passes = num_cells + num_backwards * (2 if is_split else 1)
    left = num_passes * self._num_micro_batches
    while left:
      # Every device chooses before any task counts as done: a task that needs
      # another cannot share its slot.
      chosen = [self._choose(cells) for cells in self._device_cells]
      for row, task in zip(rows, chosen, strict=True):
        if task is not None:
          row.append(task)
          self._mark_done(task)
          left -= 1
      assert any(chosen), 'A slot in which no device runs a task.'
    return tuple(tuple(row) for row in rows)

  def _choose(self, cells: list[int]) -> task_lib.Task | None:
    """The task that the device that holds `cells` (ascending) runs next."""
    forward = self._ready_forward(cells)
    if self._forwards_first and any(
      self._forwards[k] < self._num_micro_batches for k in cells
    ):
      return forward
    return (
      self._ready_backward(cells)
      or forward
      or self._ready_weight_gradient(cells)
    )

  def _ready_forward(self, cells: list[int]) -> task_lib.Task | None:
    """The forward, of those that can start, that is deepest in the pipeline.

    The deepest, because other devices wait for it, and because a micro-batch
    that goes on leaves less in flight than one that begins.
    """
    for k in reversed(cells):
      m = self._forwards[k]
      if (
        m < self._num_micro_batches
        and (k == 0 or self._forwards[k - 1] > m)
        and m - self._num_done(k) < self._limits[k]
        and self._has_room(k)
      ):
        return task_lib.Task(_FORWARD, k, m)
    return None

  def _has_room(self, k: int) -> bool:
    """Whether a cell may stash another micro-batch."""
    if self._stash_limits is None or k < self._first_backward:
      return True
    stashed = self._forwards[k] - self._weight_gradients[k]
    return stashed < self._stash_limits[k]

  def _ready_weight_gradient(self, cells: list[int]) -> task_lib.Task | None:
    """The weight gradient that is longest overdue."""
    if self._stash_limits is None:
      return None
    tasks = [
      task_lib.Task(_WEIGHT_GRADIENT, k, self._weight_gradients[k])
      for k in reversed(cells)
      if self._weight_gradients[k] < self._backwards[k]
    ]
    return min(tasks, key=lambda task: task.micro_batch, default=None)

  def _ready_backward(self, cells: list[int]) -> task_lib.Task | None:
    """The backward, of those that can start, that is nearest to cell 0."""
    last = len(self._backwards) - 1
    for k in cells:
      m = self._backwards[k]
      if k < self._first_backward:
        continue
      if m < self._forwards[k] and (k == last or self._backwards[k + 1] > m):
        return task_lib.Task(_BACKWARD, k, m)
    return None

  def _num_done(self, k: int) -> int:
    """How many micro-batches hold back a cell's forwards no more."""
    if self._first_backward == len(self._backwards):
      return 0
    return self._backwards[max(k, self._first_backward)]

  def _mark_done(self, task: task_lib.Task) -> None:
    if task.kind == _FORWARD:
      self._forwards[task.cell] += 1
    elif task.kind == _BACKWARD:
      self._backwards[task.cell] += 1
    else:
      self._weight_gradients[task.cell] += 1
