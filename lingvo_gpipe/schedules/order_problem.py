# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the best order of a pipeline's tasks depends on, as numbers."""

import dataclasses
import functools
from collections.abc import Sequence

from lingvo_gpipe.schedules import registry
from lingvo_gpipe.schedules.simulate import (
  Timeline,
  device_peak_stash,
  simulate,
  stash_counts,
)
from lingvo_gpipe.schedules.task import (
  Schedule,
  Task,
  TaskKind,
  cells_of_devices,
)


@dataclasses.dataclass(frozen=True)
class OrderProblem:
  """A pipeline whose tasks are to be ordered; times and memory in any unit.

  Attributes:
    cell_devices: For each cell, the index of its device.
    forward: For each cell, the time of F; 1 by default. So are `backward`, of B
      (input gradients, with recomputation), and `weight_gradient`, of W.
    transfers: For each boundary between cells, the time that a result takes
      from device to device; 0 by default.
    stash: For each cell, the memory that a micro-batch takes from its F to its
      W; 1 by default.
    limits: For each device, the memory for this; None is no limit.
    first_backward: The first cell with B and W.
    known: The order, if it was found before.
  """

  cell_devices: tuple[int, ...]
  num_micro_batches: int
  forward: tuple[float, ...] = ()
  backward: tuple[float, ...] = ()
  weight_gradient: tuple[float, ...] = ()
  transfers: tuple[float, ...] = ()
  stash: tuple[float, ...] = ()
  limits: tuple[float | None, ...] = ()
  first_backward: int = 0
  known: Schedule | None = None

  def __post_init__(self) -> None:
    ones = (1,) * self.num_cells
    defaults = {
      'forward': ones,
      'backward': ones,
      'weight_gradient': ones,
      'transfers': (0,) * (self.num_cells - 1),
      'stash': ones,
      'limits': (None,) * self.num_devices,
    }
    for name, default in defaults.items():
      object.__setattr__(self, name, getattr(self, name) or default)

  @property
  def num_cells(self) -> int:
    return len(self.cell_devices)

  @property
  def num_devices(self) -> int:
    return max(self.cell_devices) + 1

  def device_cells(self) -> list[list[int]]:
    return cells_of_devices(self.cell_devices)

  def duration(self, task: Task, *, is_split: bool = True) -> float:
    """How long a task takes, in a schedule with or without W tasks."""
    if task.kind == TaskKind.FORWARD:
      return self.forward[task.cell]
    if task.kind == TaskKind.WEIGHT_GRADIENT:
      return self.weight_gradient[task.cell]
    whole = 0 if is_split else self.weight_gradient[task.cell]
    return self.backward[task.cell] + whole

  def transfer(self, source: int, target: int) -> float:
    """The time from a cell to itself or to its neighbour."""
    if self.cell_devices[source] == self.cell_devices[target]:
      return 0
    return self.transfers[min(source, target)]

  def simulate(self, schedule: Schedule) -> Timeline:
    duration = functools.partial(self.duration, is_split=schedule.is_split)
    return simulate(schedule, duration, self.transfers)

  def fits(self, schedule: Schedule) -> bool:
    return all(
      sum(count * self.stash[cell] for cell, count in counts.items()) <= limit
      for device, limit in enumerate(self.limits)
      if limit is not None
      for _, counts in stash_counts(schedule, device)
    )


def limits_of_1f1b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> tuple[int, ...]:
  """For each device, as much as any device stashes under 1F1B."""
  sizes = tuple(cell_devices), num_micro_batches
  peaks = device_peak_stash(registry.build('1f1b', *sizes, first_backward))
  return (max(peaks),) * len(peaks)
