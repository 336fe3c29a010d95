# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares held-out accuracy with batch norm, pipelined and not.

Trains the digits model with K = 2 cells and M = 8 micro-batches, and the same
layers without a pipeline on batches of the micro-batches' size, several times
each from different weights.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from tools.benchmark import lingvo_set_up, output_files

_EXAMPLES = """
examples:
  tools/batch_norm.py
  tools/batch_norm.py --runs 3 --steps 100
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/batch_norm.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('--runs', type=int, default=5, help='Of each kind. Default: %(default)s.')
  add(
    '--steps',
    type=int,
    default=250,
    help='Steps of each training. Default: %(default)s.',
  )
  add('--json', help='A file for the accuracies.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; 0 if the accuracies differ by no more than noise."""
  args = _parser().parse_args(argv)
  if args.runs < 2 or args.steps < 1:
    print(
      f'tools/batch_norm.py: --runs {args.runs} must be at least 2, for a '
      f'spread, and --steps {args.steps} at least 1.',
      file=sys.stderr,
    )
    return 2
  lingvo_set_up.prepare()
  from tools.benchmark import batch_norm

  found: dict[bool, list[float]] = {True: [], False: []}
  for seed in range(1, args.runs + 1):
    for pipelined, accuracies in found.items():
      accuracies.append(batch_norm.accuracy(pipelined, seed, args.steps))
      kind = 'pipelined' if pipelined else 'plain'
      print(f'run {seed}, {kind}: {accuracies[-1]:.2%}', flush=True)
  result = batch_norm.Comparison(tuple(found[True]), tuple(found[False]))
  for kind in ('pipelined', 'plain'):
    values = getattr(result, kind)
    print(
      f'{kind}: mean {sum(values) / len(values):.2%}, standard deviation '
      f'{batch_norm.spread(values):.2%}, {min(values):.2%} to '
      f'{max(values):.2%} in {len(values)} runs'
    )
  print(
    f'difference {result.difference:+.2%} with a standard error of '
    f'{result.standard_error:.2%}: '
    + ('within noise' if result.within_noise else 'more than noise')
  )
  output_files.write_json(args.json, dataclasses.asdict(result))
  return int(not result.within_noise)


if __name__ == '__main__':
  sys.exit(main())
