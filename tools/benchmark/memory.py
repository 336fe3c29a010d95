# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what each cell's process needs, beside what theory says."""

import dataclasses
from collections.abc import Sequence

from tools.benchmark import process_memory
from tools.benchmark.child_process import ChildProcess
from tools.benchmark.memory_prediction import (
  MemoryCase,
  Prediction,
  predict,
)


@dataclasses.dataclass(frozen=True)
class MemoryResult:
  """One case, measured.

  Attributes:
    case: The case.
    peaks: For each cell, the peak of its process above its idle level, bytes.
    predictions: For each cell, what theory says.
  """

  case: MemoryCase
  peaks: tuple[int, ...]
  predictions: tuple[Prediction, ...]

  def error(self, cell: int) -> float:
    """How far the peak is above the prediction, as a share of it."""
    return self.peaks[cell] / self.predictions[cell].total - 1


def measure(cases: Sequence[MemoryCase]) -> list[MemoryResult]:
  """Runs cases, which must agree in K, on one process a cell.

  Raises:
    ChildError: A process failed; the message has its errors.
    ValueError: The cases differ in K.
  """
  num_cells = {case.num_cells for case in cases}
  if len(num_cells) > 1:
    raise ValueError(
      f'The cases have {sorted(num_cells)} cells; measure those of one number '
      'of cells at a time.'
    )
  results = []
  with ChildProcess(
    'tools.benchmark.memory_worker',
    [dataclasses.asdict(case) for case in cases],
    process_memory.ALIVE_ONLY_ENV,
  ) as child:
    for case in cases:
      peaks = child.receive()
      results.append(MemoryResult(case, tuple(peaks), tuple(predict(case))))
  return results
