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
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting.text_table import table
from tools.benchmark import command, fresh
from tools.benchmark.cases import Case
from tools.benchmark.variants import Method, Variant, make_method

_EXAMPLES = """\
  tools/start_up.py
  tools/start_up.py --mlp 8x32 --transformer '' --graphs 0 --rounds 5
"""

OURS = Method('ours', '1f1b', 'never')
_LINGVO = make_method('lingvo')
_PLAIN = Variant(make_method('plain'), 1, 1)

# What a process keeps something of, as reports call it.
_KEPT = {
  'graph': 'graph built, run and dropped',
  'function': 'shape of a tf.function',
}
_SMALL = Case('small', 'mlp', 4, 16, 16, 2, 4)

# A model with one K and M, and the ways to run it; ours first.
Row = tuple[Case, tuple[Variant, ...]]
# By the names of case and variant, what `start_up_worker.start` found.
Starts = Mapping[tuple[str, str], Mapping[str, float]]


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
  for k, m in pairs:
    case = Case('mlp', 'mlp', num_layers, 16, 512, k, m)
    case.check_micro_batches()
    methods = [OURS] + [_LINGVO] * (m <= most_for_lingvo)
    rows.append((case, tuple(Variant(method, k, m) for method in methods)))
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
  for m in micro_batches:
    case.check_micro_batches(m)
  variants = [Variant(OURS, num_cells, m) for m in micro_batches]
  return [(case, (v,)) for v in (*variants, _PLAIN)]


def measure(rows: Sequence[Row], rounds: int) -> Starts:
  """Starts every variant in a process of its own, all in turn, several times.

  Raises:
    ProcessError: A process failed.
  """
  found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
  for number in range(rounds):
    for case, variants in rows:
      for variant in variants:
        command.say(f'round {number + 1}: {case.name}, {variant.name}')
        start = _ask('start', case, variant)
        found.setdefault((case.name, variant.name), []).append(start)
  return {
    key: {
      name: statistics.median(s[name] for s in starts) for name in starts[0]
    }
    for key, starts in found.items()
  }


def measure_kept(what: str, number: int) -> dict[str, Any]:
  """What a process keeps of each of many graphs, or shapes, of a small model.

  Args:
    what: A key of _KEPT.
    number: How many, 2 or more; the last half of them count.

  Returns:
    What is built, how many, and bytes of each with a pipeline and without.
  """
  command.say(f'{number} x {_KEPT[what]}')
  ours, plain = _ask_both(what, number)
  kept = {'what': _KEPT[what], 'number': number}
  return {**kept, 'pipeline': ours, 'plain': plain}


def _ask_both(what: str, *args: Any) -> tuple[float, float]:
  """Of the small model, with and without a pipeline."""
  ours = _ask(what, _SMALL, Variant(OURS, 2, 4), *args)
  return ours, _ask(what, _SMALL, _PLAIN, *args)


def _ask(what: str, *args: Any) -> Any:
  """What a new process finds, which shares no memory with this one."""
  function = f'tools.benchmark.start_up_worker.{what}'
  return fresh.call(function, *args, spawned=True)


def as_text(
  rows: Sequence[Row],
  starts: Starts,
  kept: Sequence[Mapping[str, Any]],
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
    parts.append(table(header, [_kept_row(**k) for k in kept]))
  if eager:
    parts.append(
      f'An eager step: {eager[0]:.3f} s of CPU, {eager[1]:.3f} s without a '
      'pipeline.'
    )
  return '\n\n'.join(parts)


def _row(row: Row, starts: Starts) -> list[str]:
  case, (first, *_) = row
  found = [starts[case.name, variant.name] for variant in row[1]]
  size = [str(first.num_cells), str(first.num_micro_batches)]
  return [
    case.name,
    *(size if first.has_pipeline else ['none', '']),
    _compared([s['building'] for s in found], 1),
    _compared([s['first'] for s in found], 1),
    _compared([s['building'] + s['first'] for s in found], 1),
    _compared([s['step'] for s in found], 3),
  ]


def _compared(values: Sequence[float], digits: int) -> str:
  text = ' / '.join(f'{value:.{digits}f}' for value in values)
  if len(values) == 1:
    return text
  return f'{text} = {values[0] / values[1]:.2f}'


def _kept_row(
  what: str, number: int, pipeline: float, plain: float
) -> list[str]:
  sizes = [f'{size / 2**20:.2f}' for size in (pipeline, plain)]
  return [what, str(number), *sizes]


def _pairs(text: str) -> list[tuple[int, int]]:
  pairs = (part.partition('x') for part in command.names(text))
  return [(int(cells), int(micro_batches)) for cells, _, micro_batches in pairs]


def _parser() -> command.Parser:
  parser = command.Parser('tools/start_up.py', __doc__, _EXAMPLES)
  flag = parser.flag
  flag('mlp', '4x32,8x32,8x128,8x512', 'K x M of the MLP, commas.', _pairs)
  flag('lingvo_up_to', 128, "The largest M for Lingvo's engine.")
  flag('mlp_layers', 96, 'Layers of the MLP.')
  what = 'M of the Transformer at K = 4, commas.'
  flag('transformer', '8,32', what, command.numbers)
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

  def found() -> tuple[str, dict[str, Any]]:
    starts = measure(rows, args.rounds)
    numbers = {'graph': args.graphs, 'function': args.shapes}
    kept = [measure_kept(what, n) for what, n in numbers.items() if n]
    eager = None
    if args.shapes:
      command.say('eager steps')
      eager = _ask_both('eager')
    figures = {
      'starts': [
        {'model': model, 'variant': variant, **start}
        for (model, variant), start in starts.items()
      ],
      'kept': kept,
      'eager_step': eager,
    }
    return as_text(rows, starts, kept, eager), figures

  return command.report(parser, args, found)
