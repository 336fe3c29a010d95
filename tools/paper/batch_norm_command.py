# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares held-out accuracy with batch norm, pipelined and not.

Trains the digits model with K = 2 cells and M = 8 micro-batches, and the same
layers without a pipeline on batches of the micro-batches' size, several times
each from different weights.
"""

import dataclasses
from collections.abc import Sequence

from tools.common import command

_EXAMPLES = """\
  tools/batch_norm.py
  tools/batch_norm.py --runs 3 --steps 100
"""


def _parser() -> command.Parser:
  parser = command.Parser('tools/batch_norm.py', __doc__, _EXAMPLES)
  parser.flag('runs', 5, 'Of each kind.')
  parser.flag('steps', 250, 'Steps of each training.', command.positive)
  parser.add_argument('--json', help='A file for the accuracies.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; 0 if the accuracies differ by no more than noise."""
  parser = _parser()
  args = parser.parse_args(argv)
  if args.runs < 2:
    parser.error(f'--runs {args.runs} must be at least 2, for a spread')
  command.import_lingvo()
  from tools.paper import batch_norm

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
  command.write_json(args.json, dataclasses.asdict(result))
  return int(not result.within_noise)
