# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains six configurations, and says how far predictions of them are off.

Each runs in worker processes of its own, one a cell, each kept to a core: peak
memory above what a tiny model with the same graph leaves, and the time of a
step. Both are predicted from the model's layers, which are timed one by one on
such a core. The status is 1 if a prediction is off by more than --tolerance.
"""

import argparse
import sys
from collections.abc import Sequence

from tools.benchmark import (
  check_predictions,
  conditions,
  output_files,
  process_memory,
)
from tools.benchmark.child_process import ChildError

_PROGRAM = 'tools/check_predictions.py'
_EXAMPLES = """
examples:
  tools/check_predictions.py --markdown checked.md --json checked.json
  tools/check_predictions.py --scale 4 --steps 1
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    _PROGRAM,
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--steps',
    type=int,
    default=10,
    help='Steps of which the median counts. Default: %(default)s.',
  )
  add(
    '--scale',
    type=int,
    choices=(1, 2, 4),
    default=1,
    help='Divides the sizes of the models, for a quick look: small models say '
    'little. Default: %(default)s.',
  )
  add(
    '--cases',
    default='',
    help='Which of the six, as numbers from 1 with commas. Default: all.',
  )
  add(
    '--tolerance',
    type=float,
    default=0.15,
    help='How far a prediction may be off. Default: %(default)s.',
  )
  add('--json', help='A file for all figures.')
  add('--markdown', help='A file for the table.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  if args.steps < 1:
    parser.error(f'--steps={args.steps} must be 1 or more.')
  cases = check_predictions.default_cases(args.scale)
  try:
    numbers = [int(part) for part in args.cases.split(',') if part]
    chosen = {number: cases[number - 1] for number in numbers}
    if any(number < 1 for number in chosen):
      raise ValueError
    cases = list(chosen.values()) or cases
  except (ValueError, IndexError):
    parser.error(f'--cases={args.cases!r}: use numbers from 1 to {len(cases)}.')
  machine = conditions.now()
  text = [conditions.describe(machine)]
  print(text[0], flush=True)
  check = check_predictions.Check(
    args.steps, report=lambda line: print(line, file=sys.stderr, flush=True)
  )
  try:
    found = check.run(cases)
  except (ChildError, check_predictions.CheckError) as error:
    print(f'{_PROGRAM}: {error}', file=sys.stderr)
    return 1
  text.append(check_predictions.as_text(found))
  worst = max(max(abs(x.memory_error), abs(x.time_error)) for x in found)
  text.append(
    f'The prediction furthest off is off by {worst:.0%}; '
    f'{args.tolerance:.0%} is allowed.'
  )
  print('\n'.join(text[1:]))
  output_files.write_text(args.markdown, '\n\n'.join(text))
  output_files.write_json(
    args.json,
    {'conditions': machine, 'cases': check_predictions.as_json(found)},
  )
  return 0 if worst <= args.tolerance else 1


if __name__ == '__main__':
  sys.exit(main())
