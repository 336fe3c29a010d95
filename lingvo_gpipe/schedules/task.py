# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks and schedules: plain data that engine, simulator and grid read."""

import dataclasses
import enum
import functools
from collections.abc import Iterable, Sequence
from typing import TypeAlias


class ScheduleError(ValueError):
  """A schedule that cannot run, or that breaks a rule of its own."""


class TaskKind(enum.Enum):
  """What a task does, in the order in which a cell needs it.

  Where a schedule has WEIGHT_GRADIENT tasks, BACKWARD computes the gradient of
  the cell's input alone, and WEIGHT_GRADIENT, any time later, that of its
  weights. Otherwise BACKWARD computes both.
  """

  FORWARD = 'F'
  BACKWARD = 'B'
  WEIGHT_GRADIENT = 'W'

  # Tasks are looked up by the million; Enum's own hash runs in Python.
  __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True)
class Task:
  """One operation of one cell on one micro-batch; str() gives e.g. 'F1.3'."""

  kind: TaskKind
  cell: int
  micro_batch: int

  def __str__(self) -> str:
    return f'{self.kind.value}{self.cell}.{self.micro_batch}'


# For each device, its tasks in order.
Rows: TypeAlias = Sequence[Sequence[Task]]


def needed(task: Task, num_cells: int) -> tuple[Task, ...]:
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
  """
  k, m = task.cell, task.micro_batch
  if task.kind == TaskKind.FORWARD:
    return (Task(TaskKind.FORWARD, k - 1, m),) if k > 0 else ()
  if task.kind == TaskKind.WEIGHT_GRADIENT:
    return (Task(TaskKind.BACKWARD, k, m),)
  forward = Task(TaskKind.FORWARD, k, m)
  if k == num_cells - 1:
    return (forward,)
  return (forward, Task(TaskKind.BACKWARD, k + 1, m))


def cells_of_devices(cell_devices: Sequence[int]) -> list[list[int]]:
  """The cells of each device, ascending."""
  cells: list[list[int]] = [[] for _ in range(max(cell_devices) + 1)]
  for cell, device in enumerate(cell_devices):
    cells[device].append(cell)
  return cells


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
  """The ordered tasks of every device; `validate` checks it.

  Attributes:
    cell_devices: For each cell, the index of its device.
    device_tasks: For each device, its tasks in order; a device without cells
      has an empty row.
    first_backward: The first cell with backward tasks: nothing is trained in
      those before it. It is 0 if no cell has any.
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
  def kinds(self) -> frozenset[TaskKind]:
    return frozenset(task.kind for row in self.device_tasks for task in row)

  @property
  def forward_only(self) -> bool:
    return TaskKind.BACKWARD not in self.kinds

  @property
  def is_split(self) -> bool:
    """Whether weight gradients are tasks of their own."""
    return TaskKind.WEIGHT_GRADIENT in self.kinds

  def dependencies(self, task: Task) -> tuple[Task, ...]:
    return needed(task, self.num_cells)

  @functools.cached_property
  def runs(self) -> tuple[Task, ...]:
    """The tasks that can run: all but those in a deadlock.

    Time passes in slots. In each slot every device, by ascending index, runs
    its next task if the task's dependencies ran in earlier slots.
    """
    done: dict[Task, None] = {}
    positions = [0] * self.num_devices
    while True:
      slot = []
      for device, row in enumerate(self.device_tasks):
        position = positions[device]
        if position < len(row) and all(
          task in done for task in self.dependencies(row[position])
        ):
          slot.append(row[position])
          positions[device] += 1
      if not slot:
        return tuple(done)
      done.update(dict.fromkeys(slot))

  def in_order(self) -> tuple[Task, ...]:
    """All tasks, in the order of `runs`; ScheduleError if it deadlocks."""
    num_tasks = sum(map(len, self.device_tasks))
    if len(self.runs) < num_tasks:
      raise ScheduleError(
        f'Schedule {self.name!r} deadlocks after {len(self.runs)} of '
        f'{num_tasks} tasks; lingvo_gpipe.schedules.validate() shows where.'
      )
    return self.runs


@dataclasses.dataclass(frozen=True)
class EmittedSchedule:
  """One pass of a mini-batch through a pipeline, as a graph has it.

  Attributes:
    devices: The name of each cell's device.
    task_of_op: The tasks by the names of the ops that run them, if they have
      anything to do. It grows when backward tasks are emitted later.
    recompute_of_op: Backward tasks by the names of the ops that run the forward
      pass again for them, just before the task's own.
  """

  schedule: Schedule
  devices: tuple[str, ...]
  task_of_op: dict[str, Task]
  recompute_of_op: dict[str, Task] = dataclasses.field(default_factory=dict)
