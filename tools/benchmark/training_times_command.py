# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times whole trainings beside Lingvo's own trainer, from command to end.

Both train the same model for the same number of steps, by turns, each in a
process of its own. Beside the time of the command stands what cannot be left
out: imports, building the graph, the first step, in which TensorFlow optimises
the graph, and the other steps at their median. Printed are medians.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from tools.benchmark import conditions, output_files, training_times

_EXAMPLES = """
examples:
  tools/training_times.py                          60 steps, twice, by turns
  tools/training_times.py --steps 5 --rounds 1     does it run?
  tools/training_times.py --trainers ours --devices 2
"""


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} must be 1 or more')
  return value


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/training_times.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--model',
    default='image.digits.AmoebaNetD',
    help='A registered model. Default: %(default)s.',
  )
  for name, default, what in (
    ('steps', 60, 'Steps of a training.'),
    ('rounds', 2, 'How often the trainers take turns.'),
    ('devices', 1, "CPU devices of ours; Lingvo's trainer has one."),
  ):
    add(
      f'--{name}',
      type=_positive,
      default=default,
      help=f'{what} Default: {default}.',
    )
  add(
    '--trainers',
    default=','.join(training_times.TRAINERS),
    help='Which trainers, with commas. Default: %(default)s.',
  )
  add('--json', help='A file for all figures.')
  add('--markdown', help='A file for the table.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  trainers = args.trainers.split(',')
  unknown = set(trainers) - set(training_times.TRAINERS)
  if unknown:
    parser.error(
      f'--trainers {args.trainers}: {", ".join(sorted(unknown))} is none of '
      f'{", ".join(training_times.TRAINERS)}'
    )
  machine = conditions.now()
  text = (
    f'{conditions.describe(machine)}\n\n{args.model}, {args.steps} steps, '
    f'{args.devices} device(s) (Lingvo 1), medians of {args.rounds}:'
  )
  print(text, flush=True)
  found: dict[str, list[training_times.Training]] = {t: [] for t in trainers}
  try:
    for number in range(args.rounds):
      for trainer in trainers:
        training = training_times.run(
          trainer, args.model, args.steps, args.devices
        )
        found[trainer].append(training)
        print(
          f'  {number + 1}/{args.rounds} {trainer}: {training.seconds:.1f} s',
          file=sys.stderr,
          flush=True,
        )
  except training_times.TrainingError as error:
    print(f'training_times.py: {error}', file=sys.stderr)
    return 1
  table = training_times.as_text(found)
  print(f'\n{table}')
  output_files.write_text(args.markdown, f'{text}\n\n{table}')
  output_files.write_json(
    args.json,
    {
      'conditions': machine,
      'trainings': {
        name: [{**dataclasses.asdict(t), 'ratio': t.ratio} for t in trainings]
        for name, trainings in found.items()
      },
    },
  )
  return 0
