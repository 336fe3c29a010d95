# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Published and planned figures of the GPipe paper as a picture."""

from collections.abc import Sequence
from typing import Any

from tools.paper.memory import MemoryRow
from tools.paper.report import Half

_PUBLISHED, _OURS, _OTHERS, _BOUND = '#222222', '#1f77b4', '#9ecae1', '#999999'


def draw(
  memory: Sequence[MemoryRow], halves: Sequence[Half], path: str
) -> None:
  """Draws both memories and all throughputs that there are, as a PNG."""
  from matplotlib import figure

  panels: list[Any] = [(_draw_memory, memory)] if memory else []
  panels += [(_draw_throughputs, half) for half in halves]
  # The first panel of an odd number takes its whole row.
  is_odd = len(panels) % 2
  num_rows = (len(panels) + 1) // 2
  picture = figure.Figure(
    figsize=(13, 3.8 * num_rows), dpi=110, layout='constrained'
  )
  grid = picture.add_gridspec(num_rows, 2)
  for i, (draw_panel, what) in enumerate(panels):
    row, column = divmod(i + is_odd, 2)
    place = grid[0, :] if is_odd and i == 0 else grid[row, column]
    draw_panel(picture.add_subplot(place), what)
  picture.savefig(path)


def _draw_memory(axes: Any, rows: Sequence[MemoryRow]) -> None:
  for offset, index, kind in ((-0.2, 0, 'parameters'), (0.2, 1, 'activations')):
    places = [place + offset for place in range(len(rows))]
    ours = [row.memories[index] / row.published.num_devices for row in rows]
    published = [
      row.published.memories[index] / row.published.num_devices for row in rows
    ]
    color = (_OTHERS, _OURS)[index]
    axes.bar(places, ours, 0.36, color=color, label=f'{kind}, planner')
    label = 'published' if index else None
    _mark(axes, places, published, marker='_', color=_PUBLISHED, label=label)
  names = [
    row.published.name.replace('AmoebaNet-D', 'A').replace('Transformer', 'T')
    for row in rows
  ]
  axes.set_xticks(range(len(rows)), names, rotation=30, ha='right', fontsize=8)
  axes.set_yscale('log')
  axes.set_yticks([1, 2, 5, 10, 20, 50], ['1', '2', '5', '10', '20', '50'])
  axes.set_ylabel('GB or GiB a device')
  axes.set_title('Table 1: memory a device', fontsize=10)
  axes.legend(fontsize=8)


def _draw_throughputs(axes: Any, half: Half) -> None:
  what, rows = half
  places = list(range(len(rows)))
  for marker, color, label, heights in (
    ('_', _BOUND, 'bound', [row.bound for row in rows]),
    ('o', _OURS, 'simulated', [row.simulated for row in rows]),
    ('D', _PUBLISHED, 'published', [row.published for row in rows]),
  ):
    _mark(axes, places, heights, marker=marker, color=color, label=label)
  names = [f'M={row.num_micro_batches}\nK={row.num_cells}' for row in rows]
  axes.set_xticks(places, names, fontsize=8)
  axes.set_xlim(-0.5, len(rows) - 0.5)
  axes.set_ylim(bottom=0)
  axes.set_ylabel('relative throughput')
  title = f'{what.table}: {what.name} on {what.device.name}'
  axes.set_title(title, fontsize=10)
  axes.grid(axis='y', alpha=0.3)
  axes.legend(fontsize=8, loc='upper left')


def _mark(
  axes: Any, x: Sequence[float], y: Sequence[float], **how: Any
) -> None:
  """Marks points; '_' is a bar."""
  size, width = (220, 2.2) if how['marker'] == '_' else (36, 1)
  axes.scatter(x, y, s=size, linewidths=width, zorder=3, **how)
