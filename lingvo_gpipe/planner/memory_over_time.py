# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What devices hold, from task to task of a simulated step, and a picture.

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
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.memory_model import CellBytes, CellMemory
from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.planner.forecast import Forecast
from lingvo_gpipe.schedules import Task, TaskKind

# From when on, of which kind, and how many bytes more.
_Change: TypeAlias = tuple[float, str, int]

_KINDS = ('state', 'stash', 'activations', 'newest_gradients')
_COLOURS = ('#b9bfc7', '#3b78b5', '#e8983a', '#6b4f8a')
_GIB = 2**30
_WIDTH, _HEIGHT_A_DEVICE, _HEIGHT_MORE = 10.0, 1.25, 1.3  # Inches.
# Of more devices some are drawn.
_MOST_DEVICES = 8


@dataclasses.dataclass(frozen=True)
class Held:
  """The bytes that a device holds from a moment of the timeline on."""

  time: float
  state: int
  stash: int
  activations: int
  newest_gradients: int

  @property
  def total(self) -> int:
    return sum(getattr(self, kind) for kind in _KINDS)


def memory_over_time(
  cut: Partition, timeline: schedules.Timeline
) -> list[list[Held]]:
  """For each device what it holds, whenever that changes, and at the end."""
  spec = cut.spec
  # What each cell needs if it never has more than one micro-batch.
  cells = CellMemory(
    cut.layers,
    [1] * spec.num_cells,
    'never' if spec.recompute == 'never' else 'always',
    num_micro_batches=spec.num_micro_batches,
    input_bytes=spec.input_bytes,
    skips=spec.skips,
    kept=spec.kept,
  ).of_cells((0, *cut.splits, len(cut.layers)))
  again = schedules.recomputed(timeline.schedule, spec.recompute)
  devices = []
  for device, tasks in enumerate(timeline.schedule.device_tasks):
    state = sum(c.memory.state for c in cut.cells if c.device == device)
    changes: list[_Change] = [(0.0, 'state', state)]
    for task in tasks:
      recomputes = task.micro_batch in again[task.cell]
      changes += _changes(task, cells[task.cell], timeline, recomputes)
    devices.append(_sums(changes, float(timeline.step_time)))
  return devices


def _changes(
  task: Task, cell: CellBytes, timeline: schedules.Timeline, recomputes: bool
) -> Iterator[_Change]:
  """What a task changes, of whose micro-batch the cell needs so much."""
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
  held = dict.fromkeys(_KINDS, 0)
  moments: dict[float, Held] = {}
  for time, kind, more in sorted(changes, key=lambda change: change[0]):
    held[kind] += more
    moments[time] = Held(time, **held)
  moments[step_time] = Held(step_time, **held)
  return list(moments.values())


def draw(path: str, one: Forecast, device_memory: int | None) -> None:
  """Writes a PNG file: a row for each device, its memory, and the limit."""
  from matplotlib import figure

  devices = memory_over_time(one.partition, one.simulate())
  # The first, the last, and others evenly between.
  count = min(len(devices), _MOST_DEVICES)
  shown = [i * (len(devices) - 1) // max(count - 1, 1) for i in range(count)]
  size = _WIDTH, _HEIGHT_A_DEVICE * count + _HEIGHT_MORE
  picture = figure.Figure(size, dpi=120, layout='constrained')
  rows = picture.subplots(count, 1, squeeze=False, sharex=True, sharey=True)
  for axes, device in zip(rows[:, 0], shown, strict=True):
    _row(axes, devices[device], device_memory)
    axes.set_ylabel(f'device {device}\nGiB')
  most = max(moment.total for held in devices for moment in held)
  axes.set_ylim(0, 1.1 * max(most, device_memory or 0) / _GIB)
  unit = 'seconds' if one.speeds.are_absolute else 'of a step on one device'
  axes.set_xlabel(f'time, {unit}')
  picture.legend(
    *rows[0, 0].get_legend_handles_labels(),
    loc='outside lower center',
    ncols=len(_KINDS) + 1,
    frameon=False,
  )
  picture.suptitle(f'{one.workload.name}: {one.setting}')
  picture.savefig(path, metadata={'Software': None})


def _row(axes: Any, held: Sequence[Held], device_memory: int | None) -> None:
  times = [moment.time for moment in held]
  axes.stackplot(
    times,
    *([getattr(moment, kind) / _GIB for moment in held] for kind in _KINDS),
    step='post',
    labels=[kind.replace('_', ' ') for kind in _KINDS],
    colors=_COLOURS,
    linewidth=0,
  )
  if device_memory is not None:
    axes.axhline(
      device_memory / _GIB, c='firebrick', ls='--', label='device memory'
    )
  peak = max(moment.total for moment in held) / _GIB
  right = axes.get_yaxis_transform()
  axes.text(
    1.005, peak, f'peak {peak:.2f}', transform=right, va='center', size=8
  )
  axes.set_xlim(0, times[-1])
  axes.grid(axis='y', alpha=0.3)
