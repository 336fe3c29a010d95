# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs to start a pipeline, and what graphs leave in memory.

Models with next to no work in them, so that what is left is overhead: an MLP of
96 layers of width 16, by our engine and Lingvo's, and a Transformer of 24
layers, with and without a pipeline. Seconds are CPU seconds of all threads of a
process of its own for each; all are measured in turn, and medians are shown.
Then how much memory a process keeps of each graph that it builds, runs and
drops, and of each shape that a tf.function is traced for.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting.text_table import table
from tools.benchmark import command, conditions, fresh
from tools.benchmark.cases import Case
from tools.benchmark.variants import Method, Variant, make_method

_WORKER = 'tools.benchmark.start_up_worker'
_EXAMPLES = """\
  tools/start_up.py
  tools/start_up.py --mlp 8x32 --transformer '' --graphs 0 --rounds 5
"""

OURS = Method('ours', '1f1b', 'never')
_LINGVO = make_method('lingvo')
_PLAIN = make_method('plain')

# Of what a process keeps something, as reports call it.
KEPT = {
  'graph': 'graph built, run and dropped',
  'function': 'shape of a tf.function',
}
_SMALL = Case('small', 'mlp', 4, 16, 16, 2, 4)
_SMALL_VARIANTS = (Variant(OURS, 2, 4), Variant(_PLAIN, 1, 1))


@dataclasses.dataclass(frozen=True)
class Row:
  """One model with one K and M, and who runs it.

  Attributes:
    case: The model. It has next to no work, so that what is left is overhead.
    variants: Ways to run it; ours first.
  """

  case: Case
  variants: tuple[Variant, ...]


@dataclasses.dataclass(frozen=True)
class Start:
  """CPU seconds of a start.

  Attributes:
    building: From nothing to a session with initialised weights.
    first: The first step.
    step: A step after that.
  """

  building: float
  first: float
  step: float


@dataclasses.dataclass(frozen=True)
class Kept:
  """By how much a process grows with each graph or shape.

  Attributes:
    what: What is built.
    number: How many times; the last half of them count.
    pipeline: Bytes for each.
    plain: Bytes for each without a pipeline.
  """

  what: str
  number: int
  pipeline: float
  plain: float


def mlp_rows(
  pairs: Sequence[tuple[int, int]], num_layers: int, most_for_lingvo: int
) -> list[Row]:
  """Rows of an MLP of width 16.

  Args:
    pairs: K and M of each row.
    num_layers: Its layers; each K divides them.
    most_for_lingvo: With larger M Lingvo's engine is left out.
  """
  rows = []
  for num_cells, num_micro_batches in pairs:
    case = Case('mlp', 'mlp', num_layers, 16, 512, num_cells, num_micro_batches)
    case.check_micro_batches(num_micro_batches)
    variants = [Variant(OURS, num_cells, num_micro_batches)]
    if num_micro_batches <= most_for_lingvo:
      variants.append(Variant(_LINGVO, num_cells, num_micro_batches))
    rows.append(Row(case, tuple(variants)))
  return rows


def transformer_rows(
  num_cells: int, micro_batches: Sequence[int], num_layers: int
) -> list[Row]:
  """Rows of a Transformer of width 32; the last is without a pipeline."""
  case = Case(
    *('transformer', 'transformer', num_layers, 32, 32, num_cells),
    example_size=8,
    num_ids=1024,
  )
  variants = [Variant(OURS, num_cells, m) for m in micro_batches]
  for m in micro_batches:
    case.check_micro_batches(m)
  return [Row(case, (v,)) for v in (*variants, Variant(_PLAIN, 1, 1))]


Starts = Mapping[tuple[str, Variant], Start]


def measure(rows: Sequence[Row], rounds: int) -> Starts:
  """Starts every variant in a process of its own, all in turn, several times.

  Args:
    rows: What to start.
    rounds: How often each.

  Returns:
    Medians, by (case name, variant).

  Raises:
    ProcessError: A process failed.
  """
  found: dict[tuple[str, Variant], list[Start]] = {}
  for number in range(rounds):
    for row in rows:
      for variant in row.variants:
        command.say(f'round {number + 1}: {row.case.name}, {variant.name}')
        start = _ask('start', row.case, variant)
        found.setdefault((row.case.name, variant), []).append(Start(*start))
  return {key: _median(starts) for key, starts in found.items()}


def _median(starts: Sequence[Start]) -> Start:
  columns = zip(*map(dataclasses.astuple, starts), strict=True)
  return Start(*map(statistics.median, columns))


def measure_kept(what: str, number: int) -> Kept:
  """What a process keeps of each of many graphs, or shapes, of a small model.

  Args:
    what: A key of KEPT.
    number: How many, 2 or more.
  """
  command.say(f'{number} x {KEPT[what]}')
  ours, plain = (_ask(what, _SMALL, v, number) for v in _SMALL_VARIANTS)
  return Kept(KEPT[what], number, ours, plain)


def measure_eager() -> tuple[float, float]:
  """CPU seconds of a step outside of any tf.function, once one has run.

  Returns:
    With and without a pipeline.
  """
  command.say('eager steps')
  ours, plain = (_ask('eager', _SMALL, v) for v in _SMALL_VARIANTS)
  return ours, plain


def _ask(what: str, *args: Any) -> Any:
  """What a new process finds, which shares no memory with this one."""
  return fresh.call(f'{_WORKER}.{what}', *args, spawned=True)


def as_text(
  rows: Sequence[Row],
  starts: Starts,
  kept: Sequence[Kept],
  eager: tuple[float, float] | None,
) -> str:
  """The tables; the arguments are what was measured of which rows."""
  parts = []
  if rows:
    header = ['model', 'K', 'M', 'building', 'first step', 'both', 'a step']
    parts += [
      "CPU seconds, ours / Lingvo's = ratio:",
      table(header, [_row(row, starts) for row in rows]),
    ]
  if kept:
    header = ['kept of each', 'number', 'pipeline, MB', 'plain, MB']
    parts.append(table(header, [_kept_row(k) for k in kept]))
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


def _kept_row(kept: Kept) -> list[str]:
  sizes = [f'{size / 2**20:.2f}' for size in (kept.pipeline, kept.plain)]
  return [kept.what, str(kept.number), *sizes]


def _pairs(text: str) -> list[tuple[int, int]]:
  pairs = []
  for part in filter(None, text.split(',')):
    cells, _, micro_batches = part.partition('x')
    pairs.append((int(cells), int(micro_batches)))
  return pairs


def _parser() -> command.Parser:
  parser = command.Parser('tools/start_up.py', __doc__, _EXAMPLES)
  flag = parser.flag
  flag('mlp', '4x32,8x32,8x128,8x512', 'K x M of the MLP, commas.', _pairs)
  flag('lingvo_up_to', 128, "The largest M for Lingvo's engine.")
  flag('mlp_layers', 96, 'Layers of the MLP.')
  flag(
    'transformer',
    '8,32',
    'M of the Transformer at K = 4, commas.',
    command.numbers,
  )
  flag('transformer_layers', 24, 'Layers of the Transformer.')
  flag('graphs', 200, 'Graphs in one process; 0 for none.')
  flag('shapes', 40, 'Shapes in one tf.function; 0: none, and no eager step.')
  flag('rounds', 3, 'How often each start is measured.')
  parser.outputs('tables')
  return parser


def _rows(args: argparse.Namespace) -> list[Row]:
  rows = mlp_rows(args.mlp, args.mlp_layers, args.lingvo_up_to)
  if args.transformer:
    rows += transformer_rows(4, args.transformer, args.transformer_layers)
  return rows


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  parser.needs_linux()
  try:
    rows = _rows(args)
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = conditions.describe(machine)
  print(text, flush=True)
  try:
    starts = measure(rows, args.rounds)
    numbers = {'graph': args.graphs, 'function': args.shapes}
    kept = [measure_kept(what, n) for what, n in numbers.items() if n]
    eager = measure_eager() if args.shapes else None
  except fresh.ProcessError as error:
    return parser.failed(error)
  found = as_text(rows, starts, kept, eager)
  print(f'\n{found}')
  figures = {
    'conditions': machine,
    'starts': [
      {'model': name, 'variant': variant.name, **dataclasses.asdict(start)}
      for (name, variant), start in starts.items()
    ],
    'kept': [dataclasses.asdict(k) for k in kept],
    'eager_step': eager,
  }
  command.write(args, f'{text}\n\n{found}', figures)
  return 0
