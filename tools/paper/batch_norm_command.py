# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares held-out accuracy with batch norm, pipelined and not."""

import statistics
from collections.abc import Sequence

from tools.common import command

_EXAMPLES = """\
  tools/batch_norm.py
  tools/batch_norm.py --runs 3 --steps 100
"""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; 0 if the accuracies differ by no more than noise."""
  parser = command.Parser('tools/batch_norm.py', __doc__, _EXAMPLES)
  parser.flag('runs', 5, 'Of each kind.')
  parser.flag('steps', 250, 'Steps of each training.', command.positive)
  parser.add_argument('--json', help='A file for the accuracies.')
  args = parser.parse_args(argv)
  if args.runs < 2:
    parser.error(f'--runs {args.runs} must be at least 2, for a spread')
  # TensorFlow comes with these, and wrong flags are told before it.
  from tools.paper import batch_norm

  command.parse_no_flags()
  found: dict[str, list[float]] = {'pipelined': [], 'plain': []}
  for seed in range(1, args.runs + 1):
    for kind, values in found.items():
      values.append(batch_norm.accuracy(kind == 'pipelined', seed, args.steps))
      print(f'run {seed}, {kind}: {values[-1]:.2%}', flush=True)
  for kind, values in found.items():
    print(
      f'{kind}: mean {statistics.mean(values):.2%}, standard deviation '
      f'{statistics.stdev(values):.2%}, {min(values):.2%} to '
      f'{max(values):.2%} in {len(values)} runs'
    )
  better, error = batch_norm.difference(found['pipelined'], found['plain'])
  is_noise = abs(better) <= 2 * error
  print(
    f'difference {better:+.2%} with a standard error of {error:.2%}: '
    + ('within noise' if is_noise else 'more than noise')
  )
  command.write_json(args.json, found)
  return int(not is_noise)
