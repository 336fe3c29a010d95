# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a model with several numbers of cells and compares the losses.

The pipelined runs have the same micro-batches, so their losses must agree in
every bit, dropout included. The run without a pipeline has the mini-batch in
one piece, and other dropout masks; its curve lies beside theirs.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from tools.benchmark import lingvo_set_up, output_files

_EXAMPLES = """
examples:
  tools/convergence.py --steps 200 --picture curves.png
  tools/convergence.py --model image.digits.AmoebaNetD --cells 1,2,3
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/convergence.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--model',
    default='lm.pydoc.TransformerBytes',
    help='A registered model. Default: %(default)s.',
  )
  add('--cells', default='1,2,4', help='K, with commas. Default: %(default)s.')
  add(
    '--steps',
    type=int,
    default=200,
    help='Steps of each training. Default: %(default)s.',
  )
  add('--picture', help='A PNG file to draw the curves into.')
  add('--json', help='A file for the losses.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; 0 if the pipelined runs agree in every bit."""
  args = _parser().parse_args(argv)
  try:
    cells = [int(part) for part in args.cells.split(',')]
  except ValueError:
    cells = []
  if not cells or min(cells) < 1 or args.steps < 1:
    print(
      f'tools/convergence.py: --cells {args.cells!r} must be numbers such as '
      f'1,2,4, and --steps {args.steps} at least 1.',
      file=sys.stderr,
    )
    return 2
  lingvo_set_up.prepare()
  from lingvo_gpipe.training import user_error
  from tools.benchmark import convergence

  try:
    curves = convergence.compare(args.model, cells, args.steps, print)
  except (user_error.UserError, ValueError) as error:
    print(f'tools/convergence.py: {error}', file=sys.stderr)
    return 2
  *piped, plain = curves
  different = convergence.num_differences(piped)
  for curve in curves:
    first, last = curve.losses[0], curve.losses[-1]
    print(f'{curve.label}: loss {first!r} at step 1, {last!r} at {args.steps}')
  print(
    f'{len(piped)} pipelined runs: '
    + (
      f'all losses of {args.steps} steps are bit-identical.'
      if not different
      else f'losses differ in {different} of {args.steps} steps.'
    )
  )
  gap = max(
    abs(a - b) for a, b in zip(piped[0].losses, plain.losses, strict=True)
  )
  print(f'The unpipelined run is at most {gap:.3f} away.')
  output_files.write_json(
    args.json, [dataclasses.asdict(curve) for curve in curves]
  )
  if args.picture:
    title = f'{args.model}: the same losses however the model is cut'
    convergence.draw(curves, title, args.picture)
  return int(different > 0)


if __name__ == '__main__':
  sys.exit(main())
