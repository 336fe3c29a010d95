# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the memory of a pipeline's cells, beside what theory says.

Each cell runs on a worker process of its own, a TensorFlow server on this
machine. Printed, for each: the peak of its resident memory above its idle level
(the code and an equally large graph of a model without data are there), and
what the simulated schedule predicts. The C library is told to give freed blocks
back at once, so the peak is what is really alive, and the steps are slow.
"""

import argparse
import sys
from collections.abc import Sequence

from lingvo_gpipe.schedules import SCHEDULE_NAMES
from tools.benchmark import (
  conditions,
  memory,
  memory_report,
  output_files,
  process_memory,
)
from tools.benchmark.child_process import ChildError
from tools.benchmark.memory_prediction import MemoryCase

_EXAMPLES = """
examples:
  tools/measure_memory.py
  tools/measure_memory.py --schedules 1f1b --micro_batches 32,64,128
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/measure_memory.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--schedules',
    default=','.join(SCHEDULE_NAMES),
    help='Schedules, with commas. Default: %(default)s.',
  )
  add(
    '--micro_batches',
    default='32,64',
    help='M, several with commas. Default: %(default)s.',
  )
  for name, what in (
    ('batch', 'Examples in a mini-batch.'),
    ('num_cells', 'K.'),
    ('dim', 'The width of what crosses the boundaries.'),
    ('hidden_dim', 'The width inside a cell.'),
    ('input_dim', "The width of the model's input."),
  ):
    default = getattr(MemoryCase, name)
    add(
      f'--{name}', type=int, default=default, help=f'{what} Default: {default}.'
    )
  add('--json', help='A file for all figures.')
  add('--markdown', help='A file for the table.')
  return parser


def _cases(args: argparse.Namespace) -> list[MemoryCase]:
  return [
    MemoryCase(
      schedule=schedule,
      num_micro_batches=int(num_micro_batches),
      batch=args.batch,
      num_cells=args.num_cells,
      input_dim=args.input_dim,
      dim=args.dim,
      hidden_dim=args.hidden_dim,
    )
    for schedule in args.schedules.split(',')
    for num_micro_batches in args.micro_batches.split(',')
  ]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  try:
    cases = _cases(args)
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = conditions.describe(machine)
  print(text, flush=True)
  try:
    results = memory.measure(cases)
  except ChildError as error:
    print(f'measure_memory.py: {error}', file=sys.stderr)
    return 1
  found = memory_report.as_text(results)
  print(f'\n{found}')
  output_files.write_text(args.markdown, f'{text}\n\n{found}')
  output_files.write_json(
    args.json,
    {'conditions': machine, 'cases': memory_report.as_json(results)},
  )
  return 0
