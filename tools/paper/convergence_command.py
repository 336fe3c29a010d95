# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a model with several numbers of cells and compares the losses."""

import dataclasses
from collections.abc import Sequence

from tools.common import command

_EXAMPLES = """\
  tools/convergence.py --steps 200 --picture curves.png
  tools/convergence.py --model image.digits.AmoebaNetD --cells 1,2,3
"""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; 0 if the pipelined runs agree in every bit."""
  parser = command.Parser('tools/convergence.py', __doc__, _EXAMPLES)
  parser.flag('model', 'lm.pydoc.TransformerBytes', 'A registered model.')
  parser.flag('cells', '1,2,4', 'K, with commas.', command.numbers)
  parser.flag('steps', 200, 'Steps of each training.', command.positive)
  parser.add_argument('--picture', help='A PNG file to draw the curves into.')
  parser.add_argument('--json', help='A file for the losses.')
  args = parser.parse_args(argv)
  if not args.cells or min(args.cells) < 1:
    parser.error('--cells must be numbers such as 1,2,4')
  # TensorFlow comes with these, and wrong flags are told before it.
  from lingvo_gpipe.training import user_error
  from tools.paper import convergence

  command.parse_no_flags()
  try:
    curves = convergence.compare(args.model, args.cells, args.steps)
  except (user_error.UserError, ValueError) as error:
    parser.error(str(error))
  *piped, plain = curves
  for curve in curves:
    first, last = curve.losses[0], curve.losses[-1]
    print(f'{curve.label}: loss {first!r} at step 1, {last!r} at {args.steps}')
  different = convergence.num_differences(piped)
  verdict = f'all losses of {args.steps} steps are bit-identical.'
  if different:
    verdict = f'losses differ in {different} of {args.steps} steps.'
  print(f'{len(piped)} pipelined runs: {verdict}')
  pairs = zip(piped[0].losses, plain.losses, strict=True)
  gap = max(abs(a - b) for a, b in pairs)
  print(f'The unpipelined run is at most {gap:.3f} away.')
  command.write_json(args.json, [dataclasses.asdict(curve) for curve in curves])
  if args.picture:
    title = f'{args.model}: the same losses however the model is cut'
    convergence.draw(curves, title, args.picture)
  return int(different > 0)
