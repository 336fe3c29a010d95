# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the memory measurement found, as text, Markdown and JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe import text_table
from tools.benchmark.memory import MemoryResult

_HEADER = (
  *('schedule', 'M', 'cell', 'stash', 'at hand', 'state', 'inputs'),
  *('activations', 'in transit', 'predicted MB', 'measured MB', 'off by'),
)


def as_text(results: Sequence[MemoryResult]) -> str:
  """A table with a cell of a case a row; also Markdown."""
  return text_table.table(
    _HEADER,
    [
      _row(result, cell)
      for result in results
      for cell in range(result.case.num_cells)
    ],
  )


def _row(result: MemoryResult, cell: int) -> list[str]:
  predicted = result.predictions[cell]
  parts = (
    predicted.state,
    predicted.inputs,
    predicted.activations,
    predicted.in_transit,
    predicted.total,
    result.peaks[cell],
  )
  return [
    result.case.schedule,
    str(result.case.num_micro_batches),
    str(cell),
    str(predicted.peak_stash),
    str(predicted.at_hand),
    *(f'{part / 2**20:.1f}' for part in parts),
    text_table.signed_percent(result.error(cell)),
  ]


def as_json(results: Sequence[MemoryResult]) -> list[dict[str, Any]]:
  """All figures, for json.dump; bytes."""
  return [
    {
      **dataclasses.asdict(result),
      'errors': [result.error(k) for k in range(result.case.num_cells)],
    }
    for result in results
  ]
