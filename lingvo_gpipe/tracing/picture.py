# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws a traced step as PNG: measured, simulated, memory, on one time axis.

It needs matplotlib, which `pip install 'lingvo_gpipe[pictures]'` brings.
"""

import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.tracing import bars
from lingvo_gpipe.tracing.events import MemorySample

NEEDS_MATPLOTLIB = (
  "matplotlib is not installed, which pictures need: pip install 'matplotlib' "
  "(or 'lingvo_gpipe[pictures]')"
)
_DPI = 120
_WIDTH = 12.0  # Inches.
_ROW = 0.52  # Inches of a device's row; less where there are many.
_LEAST_ROW = 0.16
_MOST_HEIGHT = 9.0  # Inches of the rows of both panels.
_MARGIN = 1.9  # Inches of titles, axis and legend.
_MEMORY = 1.6  # Inches of the memory.
_BAR = 0.78  # Of a row.
_CHARACTER = 0.085  # Inches that a label's character needs.


def available() -> bool:
  """Whether pictures can be drawn here."""
  return importlib.util.find_spec('matplotlib') is not None


def png(
  both: Sequence[bars.Panel], title: str, memory: Sequence[MemorySample] = ()
) -> bytes:
  """Draws panels above each other; returns the bytes of a PNG file."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  num_rows = sum(len(panel.row_labels) for panel in both)
  row = max(_LEAST_ROW, min(_ROW, _MOST_HEIGHT / num_rows))
  heights = [row * len(panel.row_labels) for panel in both]
  heights += [_MEMORY] if memory else []
  figure, all_axes = pyplot.subplots(
    len(heights),
    1,
    sharex=True,
    height_ratios=heights,
    figsize=(_WIDTH, sum(heights) + _MARGIN),
    dpi=_DPI,
    layout='constrained',
  )
  length = max(panel.length for panel in both)
  size, unit = bars.unit_of(length)
  for axes, panel in zip(all_axes, both, strict=False):
    _draw_panel(axes, panel, length, size)
  if memory:
    _draw_memory(all_axes[-1], memory, length, size)
  all_axes[-1].set_xlabel(f'time after the first task starts [{unit}]')
  figure.suptitle(title, fontsize=11)
  handles = [
    matplotlib.patches.Patch(facecolor=colour, edgecolor='white', label=what)
    for what, colour in bars.legend(both)
  ]
  handles.append(
    matplotlib.patches.Patch(
      facecolor='white', edgecolor='black', lw=1.3, label='critical path'
    )
  )
  figure.legend(
    handles=handles, loc='outside lower center', ncols=5, frameon=False
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png')
  pyplot.close(figure)
  return stream.getvalue()


def _draw_panel(
  axes: Any, panel: bars.Panel, length: float, size: float
) -> None:
  """Draws a timeline; `size` is how many seconds the axis's unit has."""
  for bar in panel.bars:
    low = bar.device - _BAR / 2
    start, width = bar.start / size, (bar.end - bar.start) / size
    again = bar.recompute / size
    if again:
      axes.broken_barh(
        [(start, again)], (low, _BAR), color=bars.COLOURS[bars.RECOMPUTE], lw=0
      )
    axes.broken_barh(
      [(start + again, width - again)],
      (low, _BAR),
      color=bars.COLOURS[bar.kind],
      lw=0,
    )
    axes.broken_barh(
      [(start, width)],
      (low, _BAR),
      facecolors='none',
      edgecolors='black' if bar.critical else 'white',
      lw=1.3 if bar.critical else 0.6,
      zorder=3 if bar.critical else 2,
    )
    inches = 0.82 * _WIDTH * (bar.end - bar.start) / length
    if inches > _CHARACTER * len(bar.label):
      axes.text(
        start + width / 2,
        bar.device,
        bar.label,
        ha='center',
        va='center',
        fontsize=8,
        zorder=4,
      )
  axes.set_yticks(range(len(panel.row_labels)), panel.row_labels, fontsize=8)
  axes.set_ylim(len(panel.row_labels) - 0.5, -0.5)
  axes.set_xlim(0, length / size)
  _finish(axes, panel.title)


def _draw_memory(
  axes: Any, memory: Sequence[MemorySample], length: float, size: float
) -> None:
  """Draws a line for each process."""
  for process in sorted({sample.process for sample in memory}):
    own = [s for s in memory if s.process == process and 0 <= s.time <= length]
    axes.plot(
      [sample.time / size for sample in own],
      [sample.num_bytes / 2**20 for sample in own],
      lw=1.2,
      label=process,
    )
  axes.legend(fontsize=7, frameon=False)
  _finish(axes, 'Measured: resident memory of the processes [MiB]')


def _finish(axes: Any, title: str) -> None:
  axes.set_title(title, loc='left', fontsize=10)
  axes.grid(axis='x', alpha=0.35)
  axes.set_axisbelow(True)
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
