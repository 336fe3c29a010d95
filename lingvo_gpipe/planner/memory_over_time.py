# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What devices hold, from task to task of a simulated step.

```
           F(k, m)          B(k, m)   W(k, m)
  ---------|======|---------|======|--|=====|----------> time
  stash    [ inputs, and what is not recomputed        ]
  and, of what is recomputed, once B has made it:
  activations               [======]  [=====]    while a task of m runs
  stash                             [-]          while m waits for its W
  newest gradients  [======]  [=====]
  state    weights, sums of gradients, slots
```

Without a W tasks everything ends with B. A micro-batch that a cell does not
recompute although others are, because its B comes next or because it is the
last, has its activations from its F on.
"""

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.memory_model import CellBytes, CellMemory
from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.schedules import Task, TaskKind

# From when on, of which kind, and how many bytes more.
_Change: TypeAlias = tuple[float, str, int]

KINDS = ('state', 'stash', 'activations', 'newest_gradients')


@dataclasses.dataclass(frozen=True)
class Held:
  """What a device holds from a moment on.

  Attributes:
    time: The moment, in the unit of the timeline.
    state: Bytes of weights, sums of gradients and the optimizer's slots.
    stash: Bytes of micro-batches of which no task runs.
    activations: Bytes of what is recomputed of the one whose task runs, and
      of outputs that nothing keeps.
    newest_gradients: Bytes of its gradients, before they are in the sums.
  """

  time: float
  state: int
  stash: int
  activations: int
  newest_gradients: int

  @property
  def total(self) -> int:
    return sum(getattr(self, kind) for kind in KINDS)


def memory_over_time(
  cut: Partition, timeline: schedules.Timeline
) -> list[list[Held]]:
  """For each device what it holds from each moment on at which that changes.

  The first moment is 0, the last the end of the step.

  Args:
    cut: The cells.
    timeline: A simulated step of them.
  """
  cells = _of_one_micro_batch(cut)
  again = schedules.recomputed(timeline.schedule, cut.spec.recompute)
  devices = []
  for device, tasks in enumerate(timeline.schedule.device_tasks):
    of_device = [cell for cell in cut.cells if cell.device == device]
    state = sum(cell.memory.state for cell in of_device)
    changes: list[_Change] = [(0.0, 'state', state)]
    for task in tasks:
      recomputes = task.micro_batch in again[task.cell]
      changes += _changes(task, cells[task.cell], timeline, recomputes)
    devices.append(_sums(changes, float(timeline.step_time)))
  return devices


def _of_one_micro_batch(cut: Partition) -> list[CellBytes]:
  """What each cell needs if it never has more than one micro-batch."""
  spec = cut.spec
  memory = CellMemory(
    cut.layers,
    [1] * spec.num_cells,
    'never' if spec.recompute == 'never' else 'always',
    num_micro_batches=spec.num_micro_batches,
    input_bytes=spec.input_bytes,
    skips=spec.skips,
    kept=spec.kept,
  )
  return memory.of_cells((0, *cut.splits, len(cut.layers)))


def _changes(
  task: Task, cell: CellBytes, timeline: schedules.Timeline, recomputes: bool
) -> Iterator[_Change]:
  """What a task changes.

  Args:
    task: The task.
    cell: What its cell needs for one micro-batch.
    timeline: When tasks run.
    recomputes: Whether its micro-batch is recomputed.
  """
  schedule = timeline.schedule
  start, end = float(timeline.start[task]), float(timeline.end[task])
  is_forward = task.kind == TaskKind.FORWARD
  is_trained = task.cell >= schedule.first_backward
  if is_forward and is_trained:
    yield start, 'stash', cell.stash
  # What a forward task makes and drops at once is not counted.
  if not (is_forward and recomputes):
    yield start, 'activations', cell.activations
    yield end, 'activations', -cell.activations
  if is_forward:
    waits = is_trained and not recomputes
  else:
    yield start, 'newest_gradients', cell.new_gradients
    yield end, 'newest_gradients', -cell.new_gradients
    waits = schedule.is_split and task.kind == TaskKind.BACKWARD
    if not waits:
      yield end, 'stash', -cell.stash
  if waits:
    kind = TaskKind.BACKWARD if is_forward else TaskKind.WEIGHT_GRADIENT
    after = timeline.start[Task(kind, task.cell, task.micro_batch)]
    kept = cell.activations - cell.outputs
    yield end, 'stash', kept
    yield float(after), 'stash', -kept


def _sums(changes: list[_Change], step_time: float) -> list[Held]:
  """The changes added up, those of one moment together."""
  held = dict.fromkeys(KINDS, 0)
  moments: dict[float, Held] = {}
  for time, kind, more in sorted(changes, key=lambda change: change[0]):
    held[kind] += more
    moments[time] = Held(time, **held)
  moments[step_time] = Held(step_time, **held)
  return list(moments.values())
