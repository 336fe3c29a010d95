# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws a sweep: speed-up and memory over M, a line for each number of devices.

It needs matplotlib, which `pip install 'lingvo_gpipe[pictures]'` brings.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.planner.forecast import Forecast
from lingvo_gpipe.planner.workload import Workload

NEEDS_MATPLOTLIB = (
  "a picture needs matplotlib; install it with pip install 'matplotlib', or "
  "'lingvo_gpipe[pictures]', or name no .png file"
)
_GIB = 2**30
_SIZE = (11.0, 4.6)  # Inches.
_DPI = 120


def available() -> bool:
  """Whether pictures can be drawn here."""
  return importlib.util.find_spec('matplotlib') is not None


def draw(
  path: str,
  workload: Workload,
  forecasts: Sequence[Forecast],
  device_memory: int | None,
) -> None:
  """Writes a PNG file.

  Left the speed-up over one device without recomputation, right the memory of
  the fullest device with the limit as a line. Settings that do not fit are
  crosses.

  Args:
    path: The file.
    workload: The model.
    forecasts: What `sweep.sweep` returned.
    device_memory: Bytes that a device may hold; None for no limit.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, (speed, memory) = pyplot.subplots(
    1, 2, figsize=_SIZE, dpi=_DPI, layout='constrained'
  )
  devices = sorted({one.setting.num_devices for one in forecasts})
  for number, k in enumerate(devices):
    line = [one for one in forecasts if one.setting.num_devices == k]
    colour = pyplot.get_cmap('viridis')(0.9 * number / max(len(devices) - 1, 1))
    _line(speed, line, [one.speedup for one in line], colour, f'{k} devices')
    _line(memory, line, [one.fullest / _GIB for one in line], colour, None)
  numbers = sorted({one.setting.num_micro_batches for one in forecasts})
  _axes(speed, memory, numbers, device_memory)
  speed.legend(title=None if device_memory is None else 'crosses: too large')
  size = workload.mini_batch_size
  batch = f', mini-batch of {size}' if size else ''
  figure.suptitle(
    f'{workload.name}{batch}: the best way for each number of devices and M'
  )
  figure.savefig(path, metadata={'Software': None})
  pyplot.close(figure)


def _axes(
  speed: Any, memory: Any, numbers: Sequence[int], device_memory: int | None
) -> None:
  """Scales, titles of axes, and the limit."""
  for axes in (speed, memory):
    axes.set_xscale('log', base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel('micro-batches M')
    axes.grid(alpha=0.3)
  speed.set_ylim(bottom=0)
  memory.set_yscale('log', base=2)
  memory.yaxis.set_major_formatter('{x:g}')
  speed.set_ylabel('speed-up over one device')
  memory.set_ylabel('fullest device, GiB')
  if device_memory is not None:
    memory.axhline(device_memory / _GIB, color='firebrick', linestyle='--')
    memory.annotate(
      'limit',
      (numbers[0], device_memory / _GIB),
      xytext=(2, 4),
      textcoords='offset points',
      color='firebrick',
    )


def _line(
  axes: Any,
  line: Sequence[Forecast],
  values: Sequence[float],
  colour: Any,
  label: str | None,
) -> None:
  """A line, and a mark for each M by whether it fits."""
  numbers = [one.setting.num_micro_batches for one in line]
  axes.plot(numbers, values, color=colour, label=label, linewidth=1.5)
  for marker, fits in (('o', True), ('x', False)):
    chosen = [
      (number, value)
      for number, value, one in zip(numbers, values, line, strict=True)
      if one.fits == fits
    ]
    if chosen:
      axes.scatter(*zip(*chosen, strict=True), color=colour, marker=marker)
