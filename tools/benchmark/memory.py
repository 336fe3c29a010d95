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
from collections.abc import Iterator, Sequence
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model, text_table
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.schedules import PLAIN_NAMES
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.common import command, fresh

_EXAMPLES = """\
  tools/measure_memory.py
  tools/measure_memory.py --schedules 1f1b --micro_batches 32,64,128
"""
_FLOAT_BYTES = 4
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

  @property
  def errors(self) -> list[float]:
    """How far each peak is above its prediction, as a share of it."""
    pairs = zip(self.peaks, self.predictions, strict=True)
    return [peak / predicted['total'] - 1 for peak, predicted in pairs]


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
  case.check_micro_batches(num_micro_batches)
  return case


# -- What should be needed, from the simulated schedule.
#
# For K bottlenecks, a cell each, under recomputation. At its worst moment, in
# the backward task of a micro-batch while the next input has come, the process
# of cell k holds
#
#   weights, the sums of their gradients so far, and this micro-batch's
#     gradients, to which these are added in place
# + inputs at hand, of each the boundary's bytes
# + this micro-batch's activations: inner ones and their gradients, the gradient
#     of the output, the gradient of the input
# + what it has sent and the neighbour has not received yet: one output (unless
#     it is the last cell), one input gradient (unless it is the first)
#
# Inputs at hand: a cell sends as soon as it has something, and cell k - 1
# stashes a micro-batch until after cell k is through with it. So cell k has no
# more than the larger of both stashes: M under fill-drain, K - k + 1 under
# 1F1B. The first cell has the whole mini-batch's input from the start.


def predict(case: Case) -> list[dict[str, int]]:
  """What each cell's process should need at its peak; see above.

  Returns:
    By ascending cell: the most micro-batches that it stashes, by the simulator,
    and the most whose input it has; then in bytes: 'state', weights and their
    gradients, as `memory_model` has them; 'inputs' at hand; 'activations' of
    one micro-batch, with their gradients; what is 'in_transit', sent and still
    kept; and the 'total'.
  """
  cells = range(case.num_cells)
  schedule = schedules.make_schedule(
    case.schedule, cells, case.num_micro_batches
  )
  stash = schedules.simulate(schedule).peak_stash
  boundary = case.micro_batch_size * case.dim * _FLOAT_BYTES
  inner = case.micro_batch_size * case.hidden_dim * _FLOAT_BYTES
  predictions = []
  for k in cells:
    at_hand = max(stash[k], stash[k - 1]) if k else case.num_micro_batches
    inputs = at_hand * boundary
    if not k:
      inputs = case.batch * case.input_dim * _FLOAT_BYTES
    neighbours = int(k > 0) + int(k + 1 < case.num_cells)
    parts = {
      'state': _state_bytes(case, k),
      'inputs': inputs,
      'activations': (1 + int(k > 0)) * boundary + 2 * inner,
      'in_transit': neighbours * boundary,
    }
    counts = {'peak_stash': stash[k], 'at_hand': at_hand}
    predictions.append({**counts, **parts, 'total': sum(parts.values())})
  return predictions


def _state_bytes(case: Case, k: int) -> int:
  """A cell's weights and gradients while a backward runs; no slots."""
  width = case.dim if k else case.input_dim
  weights = (width + case.dim) * case.hidden_dim * _FLOAT_BYTES
  need = memory_model.CellMemory(
    [LayerCost(f'cell {k}', weight_bytes=weights)],
    [1],
    'always',
    num_micro_batches=case.num_micro_batches,
  ).of_cell(0, 0, 1)
  return need.state + need.new_gradients


# -- The command.


def measure(cases: Sequence[Case]) -> list[MemoryResult]:
  """Runs cases, which must agree in K, on one process a cell."""
  run_each = 'tools.benchmark.worker_run.run_each'
  splits = range(1, cases[0].num_cells)
  with fresh.AliveOnly() as alive:
    runs: list[WorkerRun] = alive.call(run_each, cases, splits, warm_up=True)
  return [
    MemoryResult(case, tuple(run.above_idle), tuple(predict(case)))
    for case, run in zip(cases, runs, strict=True)
  ]


def as_text(results: Sequence[MemoryResult]) -> str:
  """A table with a cell of a case a row; also Markdown."""
  rows = []
  for one in results:
    cells = zip(one.predictions, one.peaks, one.errors, strict=True)
    for k, (predicted, peak, error) in enumerate(cells):
      stash, at_hand, *parts = predicted.values()
      counts = one.case.num_micro_batches, k, stash, at_hand
      sizes = [f'{part / 2**20:.1f}' for part in (*parts, peak)]
      off = f'{error:+.0%}'
      rows.append([one.case.schedule, *map(str, counts), *sizes, off])
  return text_table.table(_HEADER, rows)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/measure_memory.py', __doc__, _EXAMPLES)
  flag = parser.flag
  names = ','.join(PLAIN_NAMES)
  flag('schedules', names, 'Which, with commas.', command.one_of(PLAIN_NAMES))
  flag('micro_batches', '32,64', 'M, several with commas.', command.numbers)
  flag('batch', 32768, 'Examples in a mini-batch.', command.positive)
  flag('num_cells', 4, 'K.', command.positive)
  parser.outputs()
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

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    results = measure(cases)
    figures = [
      {**dataclasses.asdict(one), 'errors': one.errors} for one in results
    ]
    yield as_text(results), {'cases': figures}

  return command.report(parser, args, found())
