# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs to start a pipeline, and what graphs leave in memory.

Models with next to no work in them, so that what is left is overhead: an MLP of
96 layers of width 16, by our engine and Lingvo's, and a Transformer of 24
layers, with and without a pipeline. Seconds are CPU seconds of all threads of a
process of its own for each; all are measured in turn, and medians are shown.
Then how much memory a process keeps of each graph that it builds, runs and
drops.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting.text_table import table
from tools.benchmark.cases import Case
from tools.benchmark.variants import METHODS, Method, Variant, expand
from tools.common import command, fresh

_EXAMPLES = """\
  tools/start_up.py
  tools/start_up.py --rows 1 --graphs 0 --rounds 5
"""

_SMALL = Case('small', 'mlp', 4, 16, 16, 2, 4)

# A model with one K and M, and the ways to run it; ours first.
Row = tuple[Case, Sequence[Variant]]
# By the names of case and variant, what `start_up_worker.start` found.
Starts = Mapping[tuple[str, str], Mapping[str, float]]


def row(case: Case, *engines: str) -> Row:
  """A row of a case by these engines."""
  ours = Method('ours', '1f1b', 'never')
  methods = {**METHODS, 'ours': ours}
  return case, expand(case, [methods[engine] for engine in engines])


def all_rows() -> list[Row]:
  """The rows of the table."""
  mlp = [
    Case('mlp', 'mlp', 96, 16, 512, *size)
    for size in ((4, 32), (8, 32), (8, 128), (8, 512))
  ]
  few, many = (
    Case(*('transformer', 'transformer', 24, 32, 32, 4, m, 8), num_ids=1024)
    for m in (8, 32)
  )
  return [
    *(row(case, 'ours', 'lingvo') for case in mlp[:3]),
    # Lingvo's would take minutes.
    *(row(case, 'ours') for case in (mlp[3], few, many)),
    row(few, 'plain'),
  ]


def measure(rows: Sequence[Row], rounds: int) -> Starts:
  """Starts each variant in a process of its own, all in turn, several times."""
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


def measure_kept(number: int) -> list[float]:
  """Bytes that a process keeps of each of many graphs, 2 or more.

  They are of a small model, with a pipeline and without.
  """
  command.say(f'{number} graphs')
  _, variants = row(_SMALL, 'ours', 'plain')
  return [_ask('graph', _SMALL, variant, number) for variant in variants]


def _ask(what: str, *args: Any) -> Any:
  """What a new process finds, which shares no memory with this one."""
  function = f'tools.benchmark.start_up_worker.{what}'
  return fresh.call(function, *args, spawned=True)


def as_text(rows: Sequence[Row], starts: Starts, kept: Sequence[float]) -> str:
  """The table of rows, and a line of what is kept of a graph, if anything."""
  header = ['model', 'K', 'M', 'building', 'first step', 'both', 'a step']
  lines = ["CPU seconds, ours / Lingvo's = ratio:", '']
  lines.append(table(header, [_row(row, starts) for row in rows]))
  if kept:
    ours, plain = (f'{size / 2**20:.2f} MB' for size in kept)
    lines += ['', f'Kept of each graph: {ours}, without a pipeline {plain}.']
  return '\n'.join(lines)


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


def _parser() -> command.Parser:
  parser = command.Parser('tools/start_up.py', __doc__, _EXAMPLES)
  flag = parser.flag
  numbers = ','.join(str(i + 1) for i in range(len(all_rows())))
  what = 'Which rows of the table, as numbers from 1 with commas.'
  flag('rows', numbers, what, command.numbers)
  flag('graphs', 200, 'Graphs in one process; 0 for none.')
  flag('rounds', 3, 'How often each start is measured.')
  parser.outputs()
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  parser.needs_linux()
  rows = parser.chosen('rows', args.rows, all_rows())

  def found() -> tuple[str, dict[str, Any]]:
    starts = measure(rows, args.rounds)
    kept = measure_kept(args.graphs) if args.graphs else []
    figures = {
      'starts': [
        {'model': model, 'variant': variant, **start}
        for (model, variant), start in starts.items()
      ],
      'kept': kept,
    }
    return as_text(rows, starts, kept), figures

  return command.report(parser, args, found)
