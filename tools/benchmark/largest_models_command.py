# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the largest models that train with so much memory a worker.

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
import re
import sys
import time
from collections.abc import Sequence

from tools.benchmark import (
  conditions,
  largest_models,
  largest_models_report,
  output_files,
  process_memory,
)
from tools.benchmark.child_process import ChildError
from tools.benchmark.largest_models import Family, MeasurementError
from tools.benchmark.training_case import FAMILIES, TrainingCase

_EXAMPLES = """
examples:
  tools/largest_models.py
  tools/largest_models.py --families transformer --budget 1GiB --workers 1,2
  tools/largest_models.py --sequence_length 512 --json largest.json
"""
_UNITS = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30}
# Beside the workers: the process that builds the graph, and other programs.
_MARGIN_BYTES = 2 * 2**30


def _bytes(text: str) -> int:
  match = re.fullmatch(
    r'([\d.]+)\s*([kmg]?)(i?b)?', text.strip(), re.IGNORECASE
  )
  if not match:
    raise argparse.ArgumentTypeError(f'{text!r}: use text such as 3GiB.')
  return int(float(match[1]) * _UNITS[match[2].lower()])


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(part) for part in text.split(','))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/largest_models.py',
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

  add('families', ','.join(FAMILIES), 'Which, with commas.', str)
  add('budget', '3GiB', 'Memory of a worker process.', _bytes)
  add('total', '14GiB', 'What all workers together may be given.', _bytes)
  add('workers', '1,2,4', 'K of the pipelines, with commas.', _numbers)
  add('filled', 0.95, 'A search ends at this share of the budget.', float)
  add('timeout', 600.0, 'Seconds that one measurement may take.', float)
  add('image_size', 64, 'Pixels to a side.')
  add('image_batch', 48, 'Images in a mini-batch.')
  add('image_micro_batches', 6, 'M of AmoebaNet pipelines.')
  add('lengths', '6,9', 'L of AmoebaNets to choose from.', _numbers)
  add('dim_step', 8, 'D is a multiple of this, and of 8.')
  add('max_dim', 1024, 'The largest D.')
  add('model_dim', 768, 'D of Transformers; heads have 16.')
  add('sequence_length', 256, 'Tokens in a row.')
  add('rows', 4, 'Rows in a mini-batch.')
  add('row_micro_batches', 4, 'M of Transformer pipelines.')
  add('max_length', 400, 'The largest L of Transformers.')
  parser.add_argument('--json', help='A file for all figures.')
  parser.add_argument('--markdown', help='A file for the tables.')
  return parser


def _family(name: str, args: argparse.Namespace) -> Family:
  if name == 'amoebanet':
    return Family(
      TrainingCase(name, args.lengths[0], 8, args.image_size, args.image_batch),
      args.image_micro_batches,
      args.lengths,
      tuple(range(args.dim_step, args.max_dim + 1, args.dim_step)),
    )
  return Family(
    TrainingCase(name, 1, args.model_dim, args.sequence_length, args.rows),
    args.row_micro_batches,
    (1,),
    tuple(range(1, args.max_length + 1)),
  )


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  if args.budget * max(args.workers) > args.total:
    parser.error(
      f'{max(args.workers)} workers with a budget of {args.budget} bytes each '
      f'may take more than --total, {args.total} bytes. Use fewer --workers, '
      'a smaller --budget, or a larger --total if the machine has it.'
    )
  if args.dim_step < 8 or args.dim_step % 8:
    parser.error(f'--dim_step={args.dim_step} must be a multiple of 8.')
  if args.model_dim % 16:
    parser.error(f'--model_dim={args.model_dim} must be a multiple of 16.')
  for length in args.lengths:
    if length < 3 or length % 3:
      parser.error(f'--lengths: {length} must be a positive multiple of 3.')
  for k in args.workers:
    if k < 1:
      parser.error(f'--workers: {k} must be 1 or more.')


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  _check(parser, args)
  try:
    families = [_family(name, args) for name in args.families.split(',')]
    for family in families:
      family.case(largest_models.Setting('', 1), args.lengths[0], 8)
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = [conditions.describe(machine)]
  print(text[0], flush=True)
  found = {}
  for family in families:
    started = time.monotonic()
    try:
      with largest_models.server() as server:
        search = largest_models.Search(
          server.ask,
          args.budget,
          args.timeout,
          args.filled,
          lambda line: print(line, file=sys.stderr, flush=True),
        )
        columns = search.family(family, largest_models.settings(args.workers))
    except (ChildError, MeasurementError) as error:
      print(f'largest_models.py: {error}', file=sys.stderr)
      return 1
    found[family.base.family] = largest_models_report.as_json(columns)
    text.append(_describe(family, args, time.monotonic() - started))
    text.append(largest_models_report.as_text(columns))
    print('\n'.join(['', *text[-2:]]), flush=True)
    # A later family may fail: what is known is kept.
    output_files.write_text(args.markdown, '\n\n'.join(text))
    output_files.write_json(
      args.json,
      {'conditions': machine, 'budget': args.budget, 'families': found},
    )
  return 0


def _describe(family: Family, args: argparse.Namespace, seconds: float) -> str:
  base = family.base
  what = (
    f'images of {base.example_size}x{base.example_size}'
    if base.family == 'amoebanet'
    else f'rows of {base.example_size} tokens, D = {base.dim}'
  )
  return (
    f'{base.family}: {args.budget / 2**30:.2f} GiB a worker, {base.batch} '
    f'{what} in a mini-batch, M = {family.num_micro_batches} in pipelines; '
    f'searched in {seconds:.0f} s.'
  )
