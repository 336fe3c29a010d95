# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the best order of a pipeline's tasks depends on, as numbers."""

import dataclasses
from collections.abc import Iterable

from lingvo_gpipe.schedules import stash
from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.simulate import Timeline, simulate

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


@dataclasses.dataclass(frozen=True)
class OrderProblem:
  """A pipeline whose tasks are to be ordered.

  Times have one unit of the caller's choice, and so do amounts of memory.

  Attributes:
    cell_devices: For each cell, the index of its device.
    num_micro_batches: M.
    forward: For each cell, the time of F. With recomputation its second run is
      in `backward`.
    backward: For each cell, the time of B, which computes input gradients.
    weight_gradient: For each cell, the time of W.
    transfers: For each boundary between cells, the time that a result takes
      from device to device.
    stash: For each cell, the memory that a micro-batch takes from its F to its
      W.
    limits: For each device, the memory that there is for this; None where
      there is no limit.
    first_backward: The first cell with B and W.
    known: The order, if it was found before.
  """

  cell_devices: tuple[int, ...]
  num_micro_batches: int
  forward: tuple[float, ...]
  backward: tuple[float, ...]
  weight_gradient: tuple[float, ...]
  transfers: tuple[float, ...] = ()
  stash: tuple[float, ...] = ()
  limits: tuple[float | None, ...] = ()
  first_backward: int = 0
  known: task_lib.Schedule | None = None

  def __post_init__(self) -> None:
    num_cells = len(self.cell_devices)
    defaults = {
      'transfers': (0,) * (num_cells - 1),
      'stash': (1,) * num_cells,
      'limits': (None,) * self.num_devices,
    }
    for name, default in defaults.items():
      object.__setattr__(self, name, getattr(self, name) or default)
    for k in range(num_cells - 1):
      if self.cell_devices[k] == self.cell_devices[k + 1]:
        times = [*self.transfers]
        times[k] = 0
        object.__setattr__(self, 'transfers', tuple(times))

  @property
  def num_cells(self) -> int:
    return len(self.cell_devices)

  @property
  def num_devices(self) -> int:
    return max(self.cell_devices) + 1

  def device_cells(self) -> list[list[int]]:
    """The cells of each device, ascending."""
    cells: list[list[int]] = [[] for _ in range(self.num_devices)]
    for cell, device in enumerate(self.cell_devices):
      cells[device].append(cell)
    return cells

  def duration(self, task: task_lib.Task, *, is_split: bool = True) -> float:
    """How long a task takes, in a schedule with or without W tasks."""
    if task.kind == _FORWARD:
      return self.forward[task.cell]
    if task.kind == _WEIGHT_GRADIENT:
      return self.weight_gradient[task.cell]
    whole = 0 if is_split else self.weight_gradient[task.cell]
    return self.backward[task.cell] + whole

  def simulate(self, schedule: task_lib.Schedule) -> Timeline:
    """When the tasks of a schedule run."""
    is_split = schedule.is_split
    return simulate(
      schedule,
      lambda task: self.duration(task, is_split=is_split),
      self.transfers,
    )

  def fits(self, schedule: task_lib.Schedule) -> bool:
    """Whether a schedule stashes no more than there is memory for."""
    for device, limit in enumerate(self.limits):
      if limit is not None:
        for _, counts in stash.stash_counts(schedule, device):
          if self.stashed(counts.items()) > limit:
            return False
    return True

  def stashed(self, counts: Iterable[tuple[int, int]]) -> float:
    """The memory of some micro-batches of some cells."""
    return sum(count * self.stash[cell] for cell, count in counts)
