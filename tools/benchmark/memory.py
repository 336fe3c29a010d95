# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the memory of a pipeline's cells, next to the memory model's.

Each cell runs on a worker process of its own, a TensorFlow server on this
machine. Printed, for each: the peak of its resident memory above its idle level
(the code and an equally large graph of a model without data are there), and
what the simulated schedule predicts. The C library is told to give freed blocks
back at once, so the peak is what is really alive, and the steps are slow.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.schedules import PLAIN_NAMES
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.benchmark.memory_prediction import predict
from tools.common import command, fresh

_EXAMPLES = """\
  tools/measure_memory.py
  tools/measure_memory.py --schedules 1f1b --micro_batches 32,64,128
"""
_HEADER = (
  *('schedule', 'M', 'cell', 'stash', 'at hand', 'state', 'inputs'),
  *('activations', 'in transit', 'predicted MB', 'measured MB', 'off by'),
)


@dataclasses.dataclass(frozen=True)
class MemoryResult:
  """One case; of each cell, its process's peak above its idle level in bytes.

  And what theory says, see `predict`.
  """

  case: Case
  peaks: tuple[int, ...]
  predictions: tuple[dict[str, int], ...]

  def error(self, cell: int) -> float:
    """How far the peak is above the prediction, as a share of it."""
    return self.peaks[cell] / self.predictions[cell]['total'] - 1


def bottlenecks(
  schedule: str, num_micro_batches: int, batch: int = 32768, num_cells: int = 4
) -> Case:
  """A model that is wide between cells and narrow inside, of a cell a layer.

  Raises:
    ValueError: There is no such schedule, or M does not divide the mini-batch.
  """
  case = Case(
    *('memory', 'bottleneck', num_cells, 1024, batch),
    *(num_cells, num_micro_batches),
    schedule=schedule,
    input_dim=128,
    hidden_dim=256,
  )
  case.check_micro_batches()
  return case


def measure(cases: Sequence[Case]) -> list[MemoryResult]:
  """Runs cases, which must agree in K, on one process a cell.

  Raises:
    ProcessError: A process failed.
  """
  run_each = 'tools.benchmark.worker_run.run_each'
  splits = range(1, cases[0].num_cells)
  with fresh.AliveOnly() as pool:
    runs: list[WorkerRun] = pool.submit(
      fresh.call, run_each, cases, splits, warm_up=True
    ).result()
  return [
    MemoryResult(case, tuple(run.above_idle), tuple(predict(case)))
    for case, run in zip(cases, runs, strict=True)
  ]


def as_text(results: Sequence[MemoryResult]) -> str:
  """A table with a cell of a case a row; also Markdown."""
  rows = [
    _row(result, cell)
    for result in results
    for cell in range(result.case.num_cells)
  ]
  return text_table.table(_HEADER, rows)


def _row(result: MemoryResult, cell: int) -> list[str]:
  case, predicted = result.case, result.predictions[cell]
  stash, at_hand, *parts = predicted.values()
  counts = case.num_micro_batches, cell, stash, at_hand
  return [
    case.schedule,
    *map(str, counts),
    *(f'{part / 2**20:.1f}' for part in (*parts, result.peaks[cell])),
    text_table.signed_percent(result.error(cell)),
  ]


def _parser() -> command.Parser:
  parser = command.Parser('tools/measure_memory.py', __doc__, _EXAMPLES)
  flag = parser.flag
  names = ','.join(PLAIN_NAMES)
  flag('schedules', names, 'Which, with commas.', command.one_of(PLAIN_NAMES))
  flag('micro_batches', '32,64', 'M, several with commas.', command.numbers)
  flag('batch', 32768, 'Examples in a mini-batch.', command.positive)
  flag('num_cells', 4, 'K.', command.positive)
  parser.outputs()
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  parser.needs_linux()
  try:
    cases = [
      bottlenecks(schedule, m, args.batch, args.num_cells)
      for schedule in args.schedules
      for m in args.micro_batches
    ]
  except ValueError as error:
    parser.error(str(error))

  def found() -> tuple[str, dict[str, Any]]:
    results = measure(cases)
    figures = [
      {
        **dataclasses.asdict(result),
        'errors': [result.error(k) for k in range(result.case.num_cells)],
      }
      for result in results
    ]
    return as_text(results), {'cases': figures}

  return command.report(parser, args, found)
