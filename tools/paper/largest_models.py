# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the largest models that train with a given memory per worker.

The GPipe paper's Table 1, on this machine: the largest AmoebaNet-D and the
largest Transformer of which one training step stays within a budget of memory
in each worker process: one worker with neither micro-batches nor recomputation
(Naive-1), and pipelines of one and more workers with both (Pipeline-K), each
cut so that the fullest worker needs least.

Workers are TensorFlow servers on this machine with one cell each, new ones for
each model tried. Memory is the peak of a process's resident memory, code and
all; one that exceeds the budget is stopped. The optimizer keeps two slots: with
weights 12 bytes a parameter, and gradients beside.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table, units
from lingvo_gpipe.cutting.partitioner import Partition
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.common import command, fresh
from tools.paper import least_memory, size_search

_EXAMPLES = """\
  tools/largest_models.py
  tools/largest_models.py --families transformer --budget 1GiB --workers 1,2
"""
# Before anything is measured: peaks are a little above the guess.
_FACTOR = 1.05
# What a worker takes without a model, until it is measured.
_IDLE_BYTES = 400 * 2**20
# What `Search` calls.
_PLANNED = 'tools.benchmark.case_cut.planned'
_RUN = 'tools.benchmark.worker_run.run'


def name_of(num_workers: int) -> str:
  """A column's name; 0 is for Naive-1."""
  return f'Pipeline-{num_workers}' if num_workers else 'Naive-1'


@dataclasses.dataclass(frozen=True)
class Family:
  """Models of one kind, and what they are trained on.

  Attributes:
    base: The case of Naive-1 but for the sizes searched; its L (AmoebaNet: any)
      and D stand where they are not searched.
    num_micro_batches: M of pipelines.
    lengths: AmoebaNet: the values of L from which each column's best is taken.
    sizes: What is searched, ascending: D of an AmoebaNet, L of a Transformer.
  """

  base: Case
  num_micro_batches: int
  lengths: Sequence[int]
  sizes: Sequence[int]

  def case(self, num_workers: int, length: int, size: int) -> Case:
    """The case of one size; `length` is not used for Transformers."""
    case = dataclasses.replace(self.base, num_layers=size)
    if self.base.model == 'amoebanet':
      case = dataclasses.replace(self.base, num_layers=length, dim=size)
    if not num_workers:
      return case
    return dataclasses.replace(
      case,
      num_micro_batches=self.num_micro_batches,
      recompute='always',
      num_cells=num_workers,
    )

  def __str__(self) -> str:
    base, m = self.base, self.num_micro_batches
    size = base.example_size
    what = f'rows of {size} tokens, D = {base.dim}'
    if base.model == 'amoebanet':
      what = f'images of {size}x{size}'
    return (
      f'{base.model}: {base.batch} {what} in a mini-batch, M = {m} in pipelines'
    )


_NAIVE: dict[str, Any] = {
  'num_cells': 1,
  'num_micro_batches': 1,
  'recompute': 'never',
}
_FAMILIES = {
  'amoebanet': Family(
    Case(
      *('amoebanet', 'amoebanet', 6, 8, 48),
      example_size=64,
      num_ids=1000,
      optimizer='rmsprop',
      **_NAIVE,
    ),
    num_micro_batches=6,
    lengths=(6, 9),
    sizes=range(8, 1025, 8),
  ),
  'transformer': Family(
    Case(
      *('transformer', 'transformer', 1, 768, 4),
      example_size=256,
      num_ids=8192,
      dropout=0.1,
      optimizer='adam',
      **_NAIVE,
    ),
    num_micro_batches=4,
    lengths=(1,),
    sizes=range(1, 401),
  ),
}


@dataclasses.dataclass(frozen=True)
class Largest:
  """What a column of the table says.

  Attributes:
    name: The column's.
    case: The largest case that trained; None if none did.
    predicted: Bytes that the memory model says each worker needs above its
      idle level.
    cells: The number of layers of each.
    too_large: The smallest case that was measured not to train; None if the
      search ended because the best one fills the budget.
  """

  name: str
  case: Case | None = None
  measured: WorkerRun | None = None
  predicted: tuple[int, ...] = ()
  cells: tuple[int, ...] = ()
  too_large: Case | None = None


class Search:
  """Finds the largest model of each column."""

  def __init__(
    self, call: Callable[..., Any], budget: int, filled: float = 0.95
  ):
    """`call` is like `fresh.call`; for `filled` see `size_search.largest`.

    No worker's peak may exceed the budget of bytes, idle level included.
    """
    self._call = call
    self._budget = budget
    self._filled = filled

  def family(self, family: Family, workers: Sequence[int]) -> list[Largest]:
    """Naive-1 and pipelines; ProcessError: a step failed, not by the budget."""
    self._idle = _IDLE_BYTES
    self._factors = {False: _FACTOR, True: _FACTOR}
    # The smallest case; AmoebaNet's at a middle width.
    middle = family.sizes[len(family.sizes) // 2]
    case = least_memory.reference_case(
      family.case(1, family.lengths[0], middle)
    )
    found = self._call(_PLANNED, case)
    reference = least_memory.Reference(
      case, found.layers, found.spec.input_bytes
    )
    return [self._column(family, k, reference) for k in (0, *workers)]

  def _column(
    self, family: Family, k: int, reference: least_memory.Reference
  ) -> Largest:
    length, cut = self._best_length(family, k, reference)
    case_of = functools.partial(family.case, k, length)
    found = size_search.largest(
      family.sizes,
      self._budget,
      lambda size: self._idle + max(cut(size).device_memory),
      lambda size: self._measure(case_of(size), cut(size).splits),
      factor=self._factors[k > 0],
      filled=self._filled,
    )
    self._factors[k > 0] = found.factor
    too_large = case_of(found.too_large) if found.too_large else None
    if found.best is None:
      return Largest(name_of(k), too_large=too_large)
    size, run = found.best
    assert run is not None
    self._idle = max(run.idle)
    planned = self._call(_PLANNED, case_of(size), cut(size).splits)
    return Largest(
      *(name_of(k), case_of(size), run, planned.device_memory, planned.sizes),
      too_large,
    )

  def _best_length(
    self, family: Family, k: int, reference: least_memory.Reference
  ) -> tuple[int, Callable[[int], Partition]]:
    """The L that promises most parameters, and its cut by size."""

    def promise(length: int) -> tuple[int, int, Callable[[int], Partition]]:
      @functools.cache
      def cut(size: int) -> Partition:
        return least_memory.guess_cut(reference, family.case(k, length, size))

      position = size_search.largest_guess(
        family.sizes,
        self._budget / _FACTOR - _IDLE_BYTES,
        lambda size: max(cut(size).device_memory),
      )
      layers = cut(family.sizes[position]).layers
      return sum(layer.parameters for layer in layers), length, cut

    return max(map(promise, family.lengths), key=lambda found: found[0])[1:]

  def _measure(
    self, case: Case, splits: Sequence[int]
  ) -> tuple[int | None, WorkerRun | None]:
    what = f'{case.title}, {case.num_cells} worker(s)'
    try:
      run: WorkerRun = self._call(_RUN, case, splits, budget=self._budget)
    except fresh.OverBudgetError:
      command.say(f'{what}: stopped at the budget.')
      return None, None
    peak = max(run.peaks)
    command.say(
      f'{what}: peak {peak / 2**20:.0f} MiB, built in '
      f'{run.build_seconds:.0f} s, step {run.step_seconds:.1f} s.'
    )
    return peak, run


def as_text(columns: Sequence[Largest]) -> str:
  """A table like the paper's Table 1: a setting a column; also Markdown."""
  naive = columns[0].measured

  def each(text: Callable[[Largest, WorkerRun], str]) -> list[str]:
    return ['-' if c.measured is None else text(c, c.measured) for c in columns]

  def ratio(column: Largest, measured: WorkerRun) -> str:
    return f'{measured.parameters / naive.parameters:.2f}' if naive else '-'

  rows = [
    ('model', [c.case.title if c.case else '-' for c in columns]),
    ('parameters', each(lambda c, m: f'{m.parameters / 1e6:.1f}M')),
    ('times Naive-1', each(ratio)),
    # Weights and two slots of float32.
    ('parameter memory, GiB', each(lambda c, m: _gib(12 * m.parameters))),
    ('measured peaks, GiB', each(lambda c, m: ' '.join(map(_gib, m.peaks)))),
    ('fullest worker, GiB', each(lambda c, m: _gib(max(m.peaks)))),
    ('by the memory model', each(lambda c, m: _gib(sum(_fullest(c, m))))),
    ('of it idle', each(lambda c, m: _gib(_fullest(c, m)[0]))),
    ('layers of each', each(lambda c, m: ' '.join(map(str, c.cells)))),
    ('step, s', each(lambda c, m: f'{m.step_seconds:.1f}')),
    ('too large', [c.too_large.title if c.too_large else '-' for c in columns]),
  ]
  return text_table.table(
    ('', *(c.name for c in columns)),
    [(title, *cells) for title, cells in rows],
  )


def _fullest(column: Largest, measured: WorkerRun) -> tuple[int, int]:
  """Idle level and prediction of the worker with the largest peak."""
  worker = measured.peaks.index(max(measured.peaks))
  return measured.idle[worker], column.predicted[worker]


def _gib(value: float) -> str:
  return f'{value / 2**30:.2f}'


def _bytes(text: str) -> int:
  try:
    return int(units.parse_bytes(text))
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> command.Parser:
  parser = command.Parser('tools/largest_models.py', __doc__, _EXAMPLES)
  flag, numbers = parser.flag, command.numbers
  names = ','.join(_FAMILIES)
  flag('families', names, 'Which, with commas.', command.one_of(_FAMILIES))
  flag('budget', '3GiB', 'Memory of a worker process.', _bytes)
  flag('total', '14GiB', 'What all workers together may be given.', _bytes)
  flag('workers', '1,2,4', 'K of the pipelines, with commas.', numbers)
  parser.outputs('tables')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  parser.needs_linux()
  if min(args.workers, default=0) < 1:
    parser.error(f'--workers={args.workers}: use numbers of 1 and more.')
  if args.budget * max(args.workers) > args.total:
    parser.error(
      f'{max(args.workers)} workers with a budget of {args.budget} bytes each '
      f'may take more than --total, {args.total} bytes. Use fewer --workers, '
      'a smaller --budget, or a larger --total if the machine has it.'
    )

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    figures: dict[str, Any] = {'budget': args.budget, 'families': {}}
    for name in args.families:
      family, started = _FAMILIES[name], time.monotonic()
      with fresh.AliveOnly() as alive:
        columns = Search(alive.call, args.budget).family(family, args.workers)
      figures['families'][name] = [dataclasses.asdict(one) for one in columns]
      head = (
        f'{family}; {args.budget / 2**30:.2f} GiB a worker, searched in '
        f'{time.monotonic() - started:.0f} s.'
      )
      yield f'{head}\n\n{as_text(columns)}', figures

  return command.report(parser, args, found())
