# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what it costs to start a pipeline, and what graphs leave behind.

Models with next to no work in them, so that what is left is overhead: an MLP of
96 layers of width 16, by our engine and Lingvo's, and a Transformer of 24
layers, with and without a pipeline. Seconds are CPU seconds of a process of its
own for each; all are measured in turn, and medians are shown. Then how much
memory a process keeps of each graph that it builds, runs and drops, and of each
shape that a tf.function is traced for.
"""

import argparse
import sys
from collections.abc import Sequence

from tools.benchmark import (
  conditions,
  output_files,
  process_memory,
  start_up,
  start_up_report,
)
from tools.benchmark.child_process import ChildError

_EXAMPLES = """
examples:
  tools/start_up.py
  tools/start_up.py --mlp 8x32 --transformer '' --graphs 0 --rounds 5
"""


def _pairs(text: str) -> list[tuple[int, int]]:
  pairs = []
  for part in filter(None, text.split(',')):
    cells, _, micro_batches = part.partition('x')
    pairs.append((int(cells), int(micro_batches)))
  return pairs


def _numbers(text: str) -> list[int]:
  return [int(part) for part in filter(None, text.split(','))]


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/start_up.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )

  def add(name, default, what, kind=int):
    parser.add_argument(
      f'--{name}',
      type=kind,
      default=default,
      help=f'{what} Default: {default}.',
    )

  add('mlp', '4x32,8x32,8x128,8x512', 'K x M of the MLP, commas.', str)
  add('lingvo_up_to', 128, "The largest M for Lingvo's engine.")
  add('mlp_layers', 96, 'Layers of the MLP.')
  add('transformer', '8,32', 'M of the Transformer at K = 4, commas.', str)
  add('transformer_layers', 24, 'Layers of the Transformer.')
  add('graphs', 200, 'Graphs in one process; 0 for none.')
  add('shapes', 40, 'Shapes in one tf.function; 0 for none, and no eager step.')
  add('rounds', 3, 'How often each start is measured.')
  parser.add_argument('--json', help='A file for all figures.')
  parser.add_argument('--markdown', help='A file for the tables.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  try:
    rows = start_up.mlp_rows(
      _pairs(args.mlp), args.mlp_layers, args.lingvo_up_to
    )
    micro_batches = _numbers(args.transformer)
    if micro_batches:
      rows += start_up.transformer_rows(
        4, micro_batches, args.transformer_layers
      )
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = conditions.describe(machine)
  print(text, flush=True)
  try:
    starts = start_up.measure(rows, args.rounds, _say)
    kept = [
      start_up.measure_kept(kind, number, _say)
      for kind, number in (('graph', args.graphs), ('function', args.shapes))
      if number
    ]
    eager = start_up.measure_eager(_say) if args.shapes else None
  except ChildError as error:
    print(f'start_up.py: {error}', file=sys.stderr)
    return 1
  found = start_up_report.as_text(rows, starts, kept, eager)
  print(f'\n{found}')
  output_files.write_text(args.markdown, f'{text}\n\n{found}')
  output_files.write_json(
    args.json,
    {'conditions': machine, **start_up_report.as_json(starts, kept, eager)},
  )
  return 0


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
