# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A device's tasks, written down as the rules of papers have them."""

from collections.abc import Mapping

from lingvo_gpipe.schedules import task as task_lib


class Row:
  """Tasks of some cells, each kind by ascending micro-batch.

  Attributes:
    tasks: What is in the row so far.
  """

  def __init__(self, cells: Mapping[str, int], num_micro_batches: int):
    """Begins an empty row.

    Args:
      cells: The device's cells, by the letters that stand for them.
      num_micro_batches: M.
    """
    self._cells = cells
    self._num_micro_batches = num_micro_batches
    self._counts: dict[str, int] = {}
    self.tasks: list[task_lib.Task] = []

  def left(self, what: str) -> int:
    """How many of, say, 'Fa', the forwards of cell a, are still to come."""
    return self._num_micro_batches - self._counts.get(what, 0)

  def add(self, *whats: str, times: int = 1) -> None:
    """Appends the next task of each, as often as told; none beyond the last."""
    for what in whats * times:
      if self.left(what):
        m = self._counts.get(what, 0)
        kind, cell = task_lib.TaskKind(what[0]), self._cells[what[1:]]
        self.tasks.append(task_lib.Task(kind, cell, m))
        self._counts[what] = m + 1
