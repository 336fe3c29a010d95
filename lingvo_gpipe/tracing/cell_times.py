# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the cells of a traced pipeline cost, over several steps."""

import dataclasses
import statistics
from collections.abc import Sequence

from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass(frozen=True)
class CellTimes:
  """Seconds that tasks of each kind and cell take.

  Attributes:
    of: The mean over micro-batches of the median over steps, by (kind, cell).
    recompute: For each cell, how much of a backward task goes into running the
      forward pass again; the mean over the micro-batches.
    num_cells: K.
  """

  of: dict[tuple[TaskKind, int], float]
  recompute: tuple[float, ...]
  num_cells: int

  def total(self, cell: int) -> float:
    """All that a micro-batch costs in a cell, in seconds."""
    return sum(t for (_, k), t in self.of.items() if k == cell)

  @property
  def slowest(self) -> int:
    """The cell that costs most."""
    return max(range(self.num_cells), key=self.total)

  @property
  def imbalance(self) -> float:
    """The slowest cell's cost over the mean; 1 if nothing costs anything."""
    totals = [self.total(k) for k in range(self.num_cells)]
    mean = statistics.fmean(totals)
    return max(totals) / mean if mean else 1.0


def cell_times(steps: Sequence[MeasuredStep]) -> CellTimes:
  """The cells' times from steps of one schedule."""
  schedule = steps[0].schedule
  tasks = [task for row in schedule.device_tasks for task in row]
  durations: dict[tuple[TaskKind, int], list[float]] = {}
  recompute: list[list[float]] = [[] for _ in range(schedule.num_cells)]
  for task in tasks:
    durations.setdefault((task.kind, task.cell), []).append(
      statistics.median(step.duration(task) for step in steps)
    )
    if task.kind == TaskKind.BACKWARD:
      recompute[task.cell].append(
        statistics.median(step.recompute.get(task, 0.0) for step in steps)
      )
  return CellTimes(
    of={key: statistics.fmean(times) for key, times in durations.items()},
    recompute=tuple(statistics.fmean(t) if t else 0.0 for t in recompute),
    num_cells=schedule.num_cells,
  )
