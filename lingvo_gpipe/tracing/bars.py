# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a picture of an analysed step shows, whoever draws it."""

import dataclasses
import math
from collections.abc import Collection, Sequence

from lingvo_gpipe.schedules import Schedule, Task, TaskKind, Timeline
from lingvo_gpipe.tracing.analysis import Analysis
from lingvo_gpipe.tracing.measured_step import MeasuredStep

RECOMPUTE = 'recomputation'
# For the kinds of work, in the order of a legend: colours that differ in
# brightness too.
COLOURS = {
  'forward': '#5B9BD5',
  'backward': '#E8833A',
  RECOMPUTE: '#F7C873',
  'weight gradient': '#63A563',
}
_KIND_NAMES = {
  TaskKind.FORWARD: 'forward',
  TaskKind.BACKWARD: 'backward',
  TaskKind.WEIGHT_GRADIENT: 'weight gradient',
}
# (Seconds in the unit, its name), the largest first.
_UNITS = ((1.0, 's'), (1e-3, 'ms'), (1e-6, 'µs'))


@dataclasses.dataclass(frozen=True)
class Bar:
  """A task in a row. Times are in seconds.

  Attributes:
    kind: A key of COLOURS.
    recompute: How much of it, at its start, is recomputation.
    label: The micro-batch's number, after the cell's where a device has
      several.
  """

  task: Task
  device: int
  kind: str
  start: float
  end: float
  recompute: float
  label: str
  critical: bool


@dataclasses.dataclass(frozen=True)
class Panel:
  """One of the two timelines.

  Attributes:
    row_labels: The devices, each with the share of its time in tasks.
    length: Where its last task ends, in seconds.
  """

  title: str
  bars: tuple[Bar, ...]
  row_labels: tuple[str, ...]
  length: float


def unit_of(seconds: float) -> tuple[float, str]:
  """The unit in which a time reads best: its seconds, and its name."""
  for size, name in _UNITS:
    if seconds >= 10 * size:
      return size, name
  return _UNITS[-1]


def ticks(length: float, count: int = 10) -> list[float]:
  """Round numbers from 0 to `length`, about `count` of them."""
  if length <= 0:
    return [0.0]
  rough = length / count
  size = 10.0 ** math.floor(math.log10(rough))
  step = next(size * f for f in (1, 2, 5, 10) if size * f >= rough * 0.999)
  return [i * step for i in range(int(length / step + 1e-9) + 1)]


def panels(analysis: Analysis, step: int) -> tuple[Panel, Panel]:
  """The measured timeline, and the one that the simulator predicts."""
  measured, predicted = analysis.measured, analysis.predicted
  length = float(predicted.step_time)
  size, unit = unit_of(measured.length)
  return (
    Panel(
      f'Measured, step {step}: {measured.length / size:.1f} {unit}, bubble '
      f'{analysis.bubble:.1%}',
      _bars(measured, measured, [p.task for p in analysis.critical_path]),
      _row_labels(measured.schedule, analysis.utilisation),
      measured.length,
    ),
    Panel(
      f'Simulated with the durations above: {length / size:.1f} {unit}, bubble '
      f'{analysis.predicted_bubble:.1%}',
      _bars(measured, predicted, predicted.critical_path),
      _row_labels(
        measured.schedule,
        [float(busy) / length for busy in predicted.device_busy],
      ),
      length,
    ),
  )


def legend(both: Sequence[Panel]) -> list[tuple[str, str]]:
  """(what, colour) of the kinds of work that are there."""
  bars = [bar for panel in both for bar in panel.bars]
  there = {bar.kind for bar in bars}
  if any(bar.recompute for bar in bars):
    there.add(RECOMPUTE)
  return [(what, c) for what, c in COLOURS.items() if what in there]


def cells_of(schedule: Schedule, device: int) -> list[int]:
  """The cells on a device."""
  return [k for k, d in enumerate(schedule.cell_devices) if d == device]


def _bars(
  measured: MeasuredStep,
  shown: MeasuredStep | Timeline,
  critical: Collection[Task],
) -> tuple[Bar, ...]:
  """The bars of `shown`, which is a timeline of the tasks of `measured`."""
  bars = []
  for task in sorted(shown.start, key=lambda t: (shown.start[t], t)):
    start, end = float(shown.start[task]), float(shown.end[task])
    if end <= start:
      continue
    device = measured.device_of(task)
    several = len(cells_of(measured.schedule, device)) > 1
    number = str(task.micro_batch)
    bars.append(
      Bar(
        task=task,
        device=device,
        kind=_KIND_NAMES[task.kind],
        start=start,
        end=end,
        recompute=min(measured.recompute.get(task, 0.0), end - start),
        label=f'{task.cell}.{number}' if several else number,
        critical=task in critical,
      )
    )
  return tuple(bars)


def _row_labels(
  schedule: Schedule, utilisation: Sequence[float]
) -> tuple[str, ...]:
  labels = []
  for device, share in enumerate(utilisation):
    cells = cells_of(schedule, device)
    plural = 's' if len(cells) > 1 else ''
    numbers = ', '.join(map(str, cells))
    labels.append(f'device {device}\ncell{plural} {numbers}: {share:.0%} busy')
  return tuple(labels)
