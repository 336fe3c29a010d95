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
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table, units
from lingvo_gpipe.cutting.partitioner import Partition
from tools.benchmark.cases import HEAD_DIM, Case
from tools.benchmark.measured import WorkerRun
from tools.common import command, conditions, fresh
from tools.paper import least_memory, size_search
from tools.paper.size_search import Found, Trial

_EXAMPLES = """\
  tools/largest_models.py
  tools/largest_models.py --families transformer --budget 1GiB --workers 1,2
  tools/largest_models.py --sequence_length 512 --json largest.json
"""
_FAMILIES = ('amoebanet', 'transformer')
# Before anything is measured: peaks are a little above the guess.
_FACTOR = 1.05
# What a worker takes without a model, until it is measured.
_IDLE_BYTES = 400 * 2**20


@dataclasses.dataclass(frozen=True)
class Setting:
  """A column: K, and whether there are micro-batches and recomputation."""

  name: str
  num_cells: int
  pipelined: bool = True


def settings(num_cells: Sequence[int]) -> list[Setting]:
  """Naive-1, and Pipeline-K for each number of workers."""
  return [
    Setting('Naive-1', 1, pipelined=False),
    *(Setting(f'Pipeline-{k}', k) for k in num_cells),
  ]


@dataclasses.dataclass(frozen=True)
class Family:
  """Models of one kind, and what they are trained on.

  Attributes:
    base: The case of the Naive-1 setting but for the sizes searched; its
      L (AmoebaNet: any) and D stand where they are not searched.
    num_micro_batches: M of the pipelined settings.
    lengths: AmoebaNet: the values of L from which each column's best is taken.
    sizes: What is searched, ascending: D of an AmoebaNet, L of a Transformer.
  """

  base: Case
  num_micro_batches: int
  lengths: tuple[int, ...]
  sizes: tuple[int, ...]

  def case(self, setting: Setting, length: int, size: int) -> Case:
    """The case of one size; `length` is not used for Transformers."""
    sizes = {'num_layers': size}
    if self.base.model == 'amoebanet':
      sizes = {'num_layers': length, 'dim': size}
    case = dataclasses.replace(self.base, **sizes)
    if not setting.pipelined:
      return case
    return dataclasses.replace(
      case,
      num_micro_batches=self.num_micro_batches,
      recompute='always',
      num_cells=setting.num_cells,
    )


@dataclasses.dataclass(frozen=True)
class Largest:
  """What a column of the table says.

  Attributes:
    case: The largest case that trained; None if none did.
    predicted: Bytes that the memory model says each worker needs above its
      idle level.
    cells: The number of layers of each.
    too_large: The smallest case that was measured not to train; None if the
      search ended because the best one fills the budget.
    num_trials: How many cases were measured.
  """

  setting: Setting
  case: Case | None
  measured: WorkerRun | None
  predicted: tuple[int, ...]
  cells: tuple[int, ...]
  too_large: Case | None
  num_trials: int


@dataclasses.dataclass(frozen=True)
class Search:
  """Finds the largest model of each setting.

  Attributes:
    call: Calls a function, like `fresh.call`.
    budget: Bytes that no worker's peak may exceed, idle level included.
    filled: The share of the budget that ends a search.
  """

  call: Callable[..., Any]
  budget: int
  timeout: float = 600.0
  filled: float = 0.95

  def family(self, family: Family, columns: Sequence[Setting]) -> list[Largest]:
    """Searches each setting; ProcessError: a step failed, not by the budget."""
    reference = self._reference(family)
    factors = {False: _FACTOR, True: _FACTOR}
    idle = _IDLE_BYTES
    result = []
    for setting in columns:
      length, cut = self._best_length(family, setting, reference)
      found = size_search.largest(
        family.sizes,
        self.budget,
        lambda size, cut=cut, idle=idle: idle + max(cut(size).device_memory),
        lambda size, s=setting, n=length, cut=cut: self._measure(
          size, family.case(s, n, size), cut(size).splits
        ),
        factor=factors[setting.pipelined],
        filled=self.filled,
      )
      factors[setting.pipelined] = found.factor
      if found.best is not None:
        idle = max(found.best.result.idle)
      result.append(self._largest(family, setting, length, cut, found))
    return result

  def _largest(
    self,
    family: Family,
    setting: Setting,
    length: int,
    cut: Callable[[int], Partition],
    found: Found[WorkerRun],
  ) -> Largest:
    def case(trial: Trial[WorkerRun] | None) -> Case | None:
      return trial and family.case(setting, length, trial.size)

    best, too_large = case(found.best), case(found.too_large)
    if best is None:
      return Largest(setting, None, None, (), (), too_large, len(found.trials))
    splits = cut(found.best.size).splits
    planned = self._call('case_cut.planned', best, splits)
    return Largest(
      *(setting, best, found.best.result, planned.device_memory),
      *(planned.sizes, too_large, len(found.trials)),
    )

  def _reference(self, family: Family) -> least_memory.Reference:
    """Costs of the smallest case; AmoebaNet's at a middle width."""
    middle = family.sizes[len(family.sizes) // 2]
    case = least_memory.reference_case(
      family.case(Setting('', 1), family.lengths[0], middle)
    )
    found = self._call('case_cut.planned', case)
    return least_memory.Reference(case, found.layers, found.spec.input_bytes)

  def _best_length(
    self,
    family: Family,
    setting: Setting,
    reference: least_memory.Reference,
  ) -> tuple[int, Callable[[int], Partition]]:
    """The L that promises most parameters, and its cut by size."""

    def promise(length: int) -> tuple[int, int, Callable[[int], Partition]]:
      @functools.cache
      def cut(size: int) -> Partition:
        case = family.case(setting, length, size)
        return least_memory.guess_cut(reference, case)

      position = size_search.largest_guess(
        family.sizes,
        self.budget / _FACTOR - _IDLE_BYTES,
        lambda size: max(cut(size).device_memory),
      )
      layers = cut(family.sizes[position]).layers
      return sum(layer.parameters for layer in layers), length, cut

    return max(map(promise, family.lengths), key=lambda found: found[0])[1:]

  def _measure(
    self, size: int, case: Case, splits: Sequence[int]
  ) -> Trial[WorkerRun]:
    what = f'{case.title}, {case.num_cells} worker(s)'
    try:
      run: WorkerRun = self._call(
        'worker_run.run', case, splits, budget=self.budget
      )
    except fresh.OverBudgetError:
      command.say(f'{what}: stopped at the budget.')
      return Trial(size, None, False, None)
    peak = max(run.peaks)
    command.say(
      f'{what}: peak {peak / 2**20:.0f} MiB, built in '
      f'{run.build_seconds:.0f} s, step {run.step_seconds:.1f} s.'
    )
    return Trial(size, peak, peak <= self.budget, run)

  def _call(self, function: str, *args: Any, **kwargs: Any) -> Any:
    return self.call(
      f'tools.benchmark.{function}', *args, timeout=self.timeout, **kwargs
    )


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
    ('measurements', [str(c.num_trials) for c in columns]),
  ]
  return text_table.table(
    ('', *(c.setting.name for c in columns)),
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
  flag('filled', 0.95, 'A search ends at this share of the budget.')
  flag('timeout', 600.0, 'Seconds that one measurement may take.')
  flag('image_size', 64, 'Pixels to a side.')
  flag('image_batch', 48, 'Images in a mini-batch.')
  flag('image_micro_batches', 6, 'M of AmoebaNet pipelines.')
  flag('lengths', '6,9', 'L of AmoebaNets to choose from.', numbers)
  flag('dim_step', 8, 'D is a multiple of this, and of 8.')
  flag('max_dim', 1024, 'The largest D.')
  flag('model_dim', 768, f'D of Transformers; heads have {HEAD_DIM}.')
  flag('sequence_length', 256, 'Tokens in a row.')
  flag('rows', 4, 'Rows in a mini-batch.')
  flag('row_micro_batches', 4, 'M of Transformer pipelines.')
  flag('max_length', 400, 'The largest L of Transformers.')
  parser.outputs('tables')
  return parser


def _family(name: str, args: argparse.Namespace) -> Family:
  """What the flags say of a family; ValueError if they do not fit."""
  if name == 'amoebanet':
    base = Case(
      *(name, name, args.lengths[0], 8, args.image_batch, 1, 1),
      recompute='never',
      example_size=args.image_size,
      num_ids=1000,
      optimizer='rmsprop',
    )
    num_micro_batches, lengths = args.image_micro_batches, args.lengths
    sizes = range(args.dim_step, args.max_dim + 1, args.dim_step)
  else:
    base = Case(
      *(name, name, 1, args.model_dim, args.rows, 1, 1),
      recompute='never',
      example_size=args.sequence_length,
      num_ids=8192,
      dropout=0.1,
      optimizer='adam',
    )
    num_micro_batches, lengths = args.row_micro_batches, (1,)
    sizes = range(1, args.max_length + 1)
  base.check_micro_batches(num_micro_batches)
  return Family(base, num_micro_batches, lengths, tuple(sizes))


def _check(parser: command.Parser, args: argparse.Namespace) -> None:
  parser.needs_linux()
  if args.budget * max(args.workers) > args.total:
    parser.error(
      f'{max(args.workers)} workers with a budget of {args.budget} bytes each '
      f'may take more than --total, {args.total} bytes. Use fewer --workers, '
      'a smaller --budget, or a larger --total if the machine has it.'
    )
  if args.dim_step < 8 or args.dim_step % 8:
    parser.error(f'--dim_step={args.dim_step} must be a multiple of 8.')
  if args.model_dim % HEAD_DIM:
    parser.error(
      f'--model_dim={args.model_dim} must be a multiple of {HEAD_DIM}.'
    )
  for length in args.lengths:
    if length < 3 or length % 3:
      parser.error(f'--lengths: {length} must be a positive multiple of 3.')
  if min(args.workers) < 1:
    parser.error(f'--workers: {min(args.workers)} must be 1 or more.')


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  _check(parser, args)
  try:
    families = [_family(name, args) for name in args.families]
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = [conditions.describe(machine)]
  print(text[0], flush=True)
  found = {}
  for family in families:
    started = time.monotonic()
    try:
      with fresh.AliveOnly() as alive:
        search = Search(alive.call, args.budget, args.timeout, args.filled)
        columns = search.family(family, settings(args.workers))
    except fresh.ProcessError as error:
      return parser.failed(error)
    found[family.base.model] = [dataclasses.asdict(c) for c in columns]
    seconds = time.monotonic() - started
    text += [_describe(family, args, seconds), as_text(columns)]
    print('\n'.join(['', *text[-2:]]), flush=True)
    # A later family may fail: what is known is kept.
    figures = {'conditions': machine, 'budget': args.budget, 'families': found}
    command.write(args, '\n\n'.join(text), figures)
  return 0


def _describe(family: Family, args: argparse.Namespace, seconds: float) -> str:
  base = family.base
  what = (
    f'images of {base.example_size}x{base.example_size}'
    if base.model == 'amoebanet'
    else f'rows of {base.example_size} tokens, D = {base.dim}'
  )
  return (
    f'{base.model}: {args.budget / 2**30:.2f} GiB a worker, {base.batch} '
    f'{what} in a mini-batch, M = {family.num_micro_batches} in pipelines; '
    f'searched in {seconds:.0f} s.'
  )
