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
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting.text_table import table
from tools.benchmark import cases
from tools.benchmark.cases import Case
from tools.common import command, fresh

_EXAMPLES = """\
  tools/start_up.py
  tools/start_up.py --rows 1 --graphs 0 --rounds 5
"""

_STEP = 'tools.benchmark.train_step'
_STEPS = 5
_SMALL = Case('small', 'mlp', 4, 16, 16, 2, 4)

# Ways to run a model with one K and M; ours first.
Row = Sequence[Case]
# CPU seconds of each, see `_start`.
Starts = Mapping[Case, Mapping[str, float]]


def row(case: Case, *methods: str) -> Row:
  """A row of a case by these methods; 'ours' stands for 'ours-1f1b-never'."""
  known = {'ours': 'ours-1f1b-never'}
  return cases.variants(case, [known.get(name, name) for name in methods])


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
  """Starts each case in a process of its own, all in turn, several times."""
  found: dict[Case, list[dict[str, float]]] = {}
  for number in range(rounds):
    for case in (case for row in rows for case in row):
      command.say(f'round {number + 1}: {case.name}, {case.variant}')
      found.setdefault(case, []).append(_start(case))
  return {
    case: {
      name: statistics.median(s[name] for s in starts) for name in starts[0]
    }
    for case, starts in found.items()
  }


def _start(case: Case) -> dict[str, float]:
  """CPU seconds: 'building', 'first' step, and 'step', one after that."""
  with fresh.Process(f'{_STEP}.worker', *_cut(case), time.process_time) as one:
    built, steps = one.ask('build'), one.ask('steps', _STEPS)
  return {
    'building': built['graph_seconds'][0],
    'first': built['first_step_seconds'][0],
    'step': statistics.median(steps['step_seconds']),
  }


def _cut(case: Case) -> tuple[Case, list[int]]:
  """A case, and cells of about the same number of layers."""
  ends = 2 if case.model == 'transformer' else 0  # Embedding and softmax.
  each = (case.num_layers + ends) / case.num_cells
  return case, [round(k * each) for k in range(1, case.num_cells)]


def measure_kept(number: int) -> list[float]:
  """Bytes that a process keeps of each of many graphs, 2 or more.

  They are of a small model, with a pipeline and without.
  """
  command.say(f'{number} graphs')
  return [
    fresh.call(f'{_STEP}.kept_bytes', *_cut(case), number)
    for case in row(_SMALL, 'ours', 'plain')
  ]


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
  case = row[0]
  found = [starts[one] for one in row]
  size = [str(case.num_cells), str(case.num_micro_batches)]
  return [
    case.name,
    *(size if case.has_pipeline else ['none', '']),
    _compared([s['building'] for s in found], 1),
    _compared([s['first'] for s in found], 1),
    _compared([s['building'] + s['first'] for s in found], 1),
    _compared([s['step'] for s in found], 3),
  ]


def _compared(values: Sequence[float], digits: int) -> str:
  text = ' / '.join(f'{value:.{digits}f}' for value in values)
  return text if len(values) == 1 else f'{text} = {values[0] / values[1]:.2f}'


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/start_up.py', __doc__, _EXAMPLES)
  numbers = ','.join(str(i + 1) for i in range(len(all_rows())))
  what = 'Which rows of the table, as numbers from 1 with commas.'
  parser.flag('rows', numbers, what, command.numbers)
  parser.flag('graphs', 200, 'Graphs in one process; 0 for none.')
  parser.flag('rounds', 3, 'How often each start is measured.')
  parser.outputs()
  args = parser.parse_args(argv)
  parser.needs_linux()
  rows = parser.chosen('rows', args.rows, all_rows())

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    starts = measure(rows, args.rounds)
    kept = measure_kept(args.graphs) if args.graphs else []
    figures = [
      {'model': case.name, 'variant': case.variant, **start}
      for case, start in starts.items()
    ]
    yield as_text(rows, starts, kept), {'starts': figures, 'kept': kept}

  return command.report(parser, args, found())
