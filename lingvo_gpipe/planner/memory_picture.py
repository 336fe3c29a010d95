# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws what devices hold over the time of a step. It needs matplotlib."""

from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.planner.forecast import Forecast
from lingvo_gpipe.planner.memory_over_time import KINDS, Held, memory_over_time

_GIB = 2**30
_WIDTH, _HEIGHT_A_DEVICE, _HEIGHT_MORE = 10.0, 1.25, 1.3  # Inches.
_DPI = 120
# Of more devices some are drawn.
_MOST_DEVICES = 8
_COLOURS = ('#b9bfc7', '#3b78b5', '#e8983a', '#6b4f8a')


def draw(path: str, one: Forecast, device_memory: int | None) -> None:
  """Writes a PNG file: a row for each device, its memory over time.

  Args:
    path: The file.
    one: The way to run a model.
    device_memory: Bytes that a device may hold; None for no limit.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  devices = memory_over_time(one.partition, one.simulate())
  shown = _shown(len(devices))
  figure, rows = pyplot.subplots(
    len(shown),
    1,
    squeeze=False,
    sharex=True,
    sharey=True,
    figsize=(_WIDTH, _HEIGHT_A_DEVICE * len(shown) + _HEIGHT_MORE),
    dpi=_DPI,
    layout='constrained',
  )
  for axes, device in zip(rows[:, 0], shown, strict=True):
    _row(axes, devices[device], device_memory)
    axes.set_ylabel(f'device {device}\nGiB')
  most = max(moment.total for held in devices for moment in held)
  axes.set_ylim(0, 1.1 * max(most, device_memory or 0) / _GIB)
  unit = 'seconds' if one.speeds.are_absolute else 'of a step on one device'
  axes.set_xlabel(f'time, {unit}')
  figure.legend(
    *rows[0, 0].get_legend_handles_labels(),
    loc='outside lower center',
    ncols=len(KINDS) + 1,
    frameon=False,
  )
  some = f' ({len(shown)} of {len(devices)} devices)'
  figure.suptitle(
    f'{one.workload.name}: {one.setting}'
    + (some if len(shown) < len(devices) else '')
  )
  figure.savefig(path, metadata={'Software': None})
  pyplot.close(figure)


def _shown(num_devices: int) -> list[int]:
  """The devices to draw: the first, the last, and others evenly between."""
  count = min(num_devices, _MOST_DEVICES)
  return [i * (num_devices - 1) // max(count - 1, 1) for i in range(count)]


def _row(axes: Any, held: Sequence[Held], device_memory: int | None) -> None:
  """Kinds of memory on top of each other, and the limit."""
  times = [moment.time for moment in held]
  axes.stackplot(
    times,
    *([getattr(moment, kind) / _GIB for moment in held] for kind in KINDS),
    step='post',
    labels=[kind.replace('_', ' ') for kind in KINDS],
    colors=_COLOURS,
    linewidth=0,
  )
  if device_memory is not None:
    axes.axhline(
      device_memory / _GIB,
      color='firebrick',
      linestyle='--',
      linewidth=1.2,
      label='device memory',
    )
  peak = max(moment.total for moment in held) / _GIB
  axes.annotate(
    f'peak {peak:.2f}',
    (1, peak),
    xycoords=('axes fraction', 'data'),
    xytext=(3, 0),
    textcoords='offset points',
    va='center',
    fontsize=8,
  )
  axes.set_xlim(0, times[-1])
  axes.grid(axis='y', alpha=0.3)
