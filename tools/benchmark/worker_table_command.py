# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains one pipeline of four cells over one process, two and four workers.

The losses must agree in every bit, and each worker must hold the weights of its
cells and no others; else the exit status is 1. Printed are the step times, and
for each process its weights and its peak of memory, without what imports take.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from tools.benchmark import conditions, output_files, worker_table

_EXAMPLES = """
examples:
  tools/worker_table.py                            25 million weights
  tools/worker_table.py --steps 3 \\
      --model tools.benchmark.worker_model.Tiny
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/worker_table.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--model',
    default='tools.benchmark.worker_model.Wide',
    help='A registered model, its random_seed set and its cut left open. '
    'Default: %(default)s.',
  )
  add(
    '--steps',
    type=int,
    default=10,
    help='Steps of each training. Default: %(default)s.',
  )
  add(
    '--workers',
    default='0,2,4',
    help='Worker processes, with commas; 0: one process. Default: %(default)s.',
  )
  add('--json', help='A file for all figures.')
  add('--markdown', help='A file for the tables.')
  return parser


def _numbers(text: str) -> list[int]:
  try:
    numbers = [int(part) for part in text.split(',')]
  except ValueError:
    return []
  cells = worker_table.NUM_CELLS
  return numbers if all(n in (0, 1, 2, cells) for n in numbers) else []


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; 0 if all is as it must be."""
  parser = _parser()
  args = parser.parse_args(argv)
  numbers = _numbers(args.workers)
  if not numbers:
    parser.error(
      f'--workers {args.workers!r}: numbers such as 0,2,4, each of which '
      f'divides the {worker_table.NUM_CELLS} cells, or 0'
    )
  if args.steps < 2:
    parser.error(f'--steps {args.steps}: 2 or more, the first is not timed')
  machine = conditions.now()
  text = f'{conditions.describe(machine)}\n\n{args.model}, {args.steps} steps:'
  print(text, flush=True)
  runs = []
  try:
    with tempfile.TemporaryDirectory(prefix='worker_table_') as directory:
      for number in numbers:
        found = worker_table.run(
          number, args.model, args.steps, pathlib.Path(directory)
        )
        runs.append(found)
        print(
          f'  {found.name}: {found.stages.total:.0f} s',
          file=sys.stderr,
          flush=True,
        )
  except worker_table.RunError as error:
    print(f'worker_table.py: {error}', file=sys.stderr)
    return 1
  problems = worker_table.problems(runs, args.steps)
  verdict = '\n'.join(problems) or (
    f'All {args.steps} losses are bit-identical; each worker holds the '
    'weights of its cells.'
  )
  tables = f'{worker_table.as_text(runs)}\n\n{verdict}'
  print(f'\n{tables}')
  output_files.write_text(args.markdown, f'{text}\n\n{tables}')
  output_files.write_json(
    args.json,
    {
      'conditions': machine,
      'runs': [dataclasses.asdict(found) for found in runs],
      'problems': problems,
    },
  )
  return int(bool(problems))
