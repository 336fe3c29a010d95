# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of what `start_up` measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.text_table import table
from tools.benchmark.start_up import Kept, Row, Start
from tools.benchmark.variants import Variant

Starts = Mapping[tuple[str, Variant], Start]


def as_text(
  rows: Sequence[Row],
  starts: Starts,
  kept: Sequence[Kept],
  eager: tuple[float, float] | None,
) -> str:
  """The tables.

  Args:
    rows: What was started.
    starts: How long it took, by (case name, variant).
    kept: What was measured of memory.
    eager: CPU seconds of an eager step, with and without a pipeline.
  """
  parts = []
  if rows:
    header = ['model', 'K', 'M', 'building', 'first step', 'both', 'a step']
    parts += [
      "CPU seconds, ours / Lingvo's = ratio:",
      table(header, [_row(row, starts) for row in rows]),
    ]
  if kept:
    header = ['kept of each', 'number', 'pipeline, MB', 'plain, MB']
    parts.append(table(header, [_kept(k) for k in kept]))
  if eager:
    parts.append(
      f'An eager step: {eager[0]:.3f} s of CPU, {eager[1]:.3f} s without a '
      'pipeline.'
    )
  return '\n\n'.join(parts)


def _row(row: Row, starts: Starts) -> list[str]:
  first = row.variants[0]
  found = [starts[row.case.name, variant] for variant in row.variants]
  size = [str(first.num_cells), str(first.num_micro_batches)]
  if not first.has_pipeline:
    size = ['none', '']
  return [
    row.case.name,
    *size,
    _compared([s.building for s in found], 1),
    _compared([s.first for s in found], 1),
    _compared([s.building + s.first for s in found], 1),
    _compared([s.step for s in found], 3),
  ]


def _compared(values: Sequence[float], digits: int) -> str:
  text = ' / '.join(f'{value:.{digits}f}' for value in values)
  if len(values) == 1:
    return text
  return f'{text} = {values[0] / values[1]:.2f}'


def _kept(kept: Kept) -> list[str]:
  return [
    kept.what,
    str(kept.number),
    f'{kept.pipeline / 2**20:.2f}',
    f'{kept.plain / 2**20:.2f}',
  ]


def as_json(
  starts: Starts, kept: Sequence[Kept], eager: tuple[float, float] | None
) -> dict[str, Any]:
  """All figures."""
  return {
    'starts': [
      {
        'model': name,
        'variant': variant.name,
        **dataclasses.asdict(start),
      }
      for (name, variant), start in starts.items()
    ],
    'kept': [dataclasses.asdict(k) for k in kept],
    'eager_step': eager,
  }
