# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks and schedules: the plain data that the rest of the pipeline reads.

A schedule says, for each device, which tasks it runs and in which order. The
engine emits it, the simulator times it, the grid draws it, and all three read
the same value.
"""

import dataclasses
import enum
import functools
from collections.abc import Iterable


class ScheduleError(ValueError):
  """A schedule that cannot run, or that breaks a rule of its own."""


@functools.total_ordering
class TaskKind(enum.Enum):
  """What a task does; kinds compare in the order in which a cell needs them.

  WEIGHT_GRADIENT is for schedules that split the backward pass: BACKWARD then
  computes the gradient of the cell's input alone, and WEIGHT_GRADIENT, any
  time later, that of the cell's weights. Where a schedule has no
  WEIGHT_GRADIENT task, BACKWARD computes both.
  """

  FORWARD = 'F'
  BACKWARD = 'B'
  WEIGHT_GRADIENT = 'W'

  # Tasks are looked up by the million; Enum's own hash runs in Python.
  __hash__ = object.__hash__

  def __lt__(self, other: object) -> bool:
    if not isinstance(other, TaskKind):
      return NotImplemented
    return _KIND_RANK[self] < _KIND_RANK[other]


_KIND_RANK = {kind: rank for rank, kind in enumerate(TaskKind)}


@dataclasses.dataclass(frozen=True, order=True)
class Task:
  """One operation of one cell on one micro-batch; str() gives e.g. 'F1.3'."""

  kind: TaskKind
  cell: int
  micro_batch: int

  def __str__(self) -> str:
    return f'{self.kind.value}{self.cell}.{self.micro_batch}'


def needed(task: Task, num_cells: int) -> tuple[Task, ...]:
  """The tasks whose results `task` uses, see `Schedule.dependencies`."""
  k, m = task.cell, task.micro_batch
  if task.kind == TaskKind.FORWARD:
    return (Task(TaskKind.FORWARD, k - 1, m),) if k > 0 else ()
  if task.kind == TaskKind.WEIGHT_GRADIENT:
    return (Task(TaskKind.BACKWARD, k, m),)
  forward = Task(TaskKind.FORWARD, k, m)
  if k == num_cells - 1:
    return (forward,)
  return (forward, Task(TaskKind.BACKWARD, k + 1, m))


def without_frozen(
  rows: Iterable[Iterable[Task]], first_backward: int
) -> tuple[tuple[Task, ...], ...]:
  """Rows without the backward passes of cells in which nothing is trained."""
  return tuple(
    tuple(
      task
      for task in row
      if task.kind == TaskKind.FORWARD or task.cell >= first_backward
    )
    for row in rows
  )


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The ordered tasks of every device.

  Attributes:
    name: The schedule's name, for messages.
    num_micro_batches: M, the number of micro-batches in a mini-batch.
    cell_devices: For each cell, the index of its device.
    device_tasks: For each device, its tasks in the order in which they run. A
      device without cells has an empty row.
    first_backward: The first cell with backward tasks. Those before it, in
      which nothing is trained, have forward tasks only. A schedule without any
      backward task leaves it at 0.

  Building a schedule does not check it, so that a wrong one can be inspected;
  `validate` checks it.
  """

  name: str
  num_micro_batches: int
  cell_devices: tuple[int, ...]
  device_tasks: tuple[tuple[Task, ...], ...]
  first_backward: int = 0

  @functools.cached_property
  def num_cells(self) -> int:
    return len(self.cell_devices)

  @property
  def num_devices(self) -> int:
    return len(self.device_tasks)

  @functools.cached_property
  def forward_only(self) -> bool:
    """Whether the schedule has no backward task."""
    return not any(
      task.kind == TaskKind.BACKWARD
      for tasks in self.device_tasks
      for task in tasks
    )

  @functools.cached_property
  def is_split(self) -> bool:
    """Whether weight gradients are tasks of their own."""
    return any(
      task.kind == TaskKind.WEIGHT_GRADIENT
      for tasks in self.device_tasks
      for task in tasks
    )

  def dependencies(self, task: Task) -> tuple[Task, ...]:
    """The tasks whose results `task` uses, whatever device they run on.

    ```
    F(k-1,m) --> F(k,m) --> F(k+1,m)
                   |
                   v
    B(k-1,m) <-- B(k,m) <-- B(k+1,m)
                   |
                   v
                 W(k,m)
    ```

    Args:
      task: Any task of this schedule's cells and micro-batches.

    Returns:
      For F(k,m): F(k-1,m), if there is such a cell. For B(k,m): F(k,m), then
      B(k+1,m) if there is such a cell. For W(k,m): B(k,m).

    Raises:
      ValueError: The cell or the micro-batch lies outside the schedule.
    """
    k, m = task.cell, task.micro_batch
    if not 0 <= k < self.num_cells:
      raise ValueError(
        f'Task {task} names cell {k}; the schedule has cells 0 to '
        f'{self.num_cells - 1}.'
      )
    if not 0 <= m < self.num_micro_batches:
      raise ValueError(
        f'Task {task} names micro-batch {m}; the schedule has micro-batches 0 '
        f'to {self.num_micro_batches - 1}.'
      )
    return needed(task, self.num_cells)

  def in_slots(self) -> list[list[Task]]:
    """Runs the schedule with time in slots and every task one slot long.

    In each slot every device, by ascending index, runs its next task if the
    task's dependencies ran in earlier slots.

    Returns:
      The tasks of each slot, up to the last slot in which any device could
      run. If the schedule deadlocks some of its tasks are not there.
    """
    done: set[Task] = set()
    slots: list[list[Task]] = []
    positions = [0] * self.num_devices
    while True:
      slot = []
      for device, tasks in enumerate(self.device_tasks):
        if positions[device] == len(tasks):
          continue
        task = tasks[positions[device]]
        if all(needed in done for needed in self.dependencies(task)):
          slot.append(task)
          positions[device] += 1
      if not slot:
        return slots
      slots.append(slot)
      done.update(slot)

  def in_order(self) -> tuple[Task, ...]:
    """All tasks in one order that respects devices and dependencies.

    It is the order in which tasks start when all take equally long, tasks of
    one slot by ascending device; the same at each call.

    Raises:
      ScheduleError: No device can go on: the schedule would deadlock.
    """
    order = self._order
    num_tasks = sum(len(tasks) for tasks in self.device_tasks)
    if len(order) < num_tasks:
      raise ScheduleError(
        f'Schedule {self.name!r} deadlocks after {len(order)} of {num_tasks} '
        'tasks: the next task of every device waits for one that has not run. '
        'lingvo_gpipe.schedules.validate() shows where.'
      )
    return order

  @functools.cached_property
  def _order(self) -> tuple[Task, ...]:
    return tuple(task for slot in self.in_slots() for task in slot)
