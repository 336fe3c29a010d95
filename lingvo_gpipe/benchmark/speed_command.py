# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times pipelined training steps, beside Lingvo's own GPipe and one core.

Every variant runs in a process of its own; they take turns, so that all of
them see the same machine. Printed, for each case: the median step time; core
time of a step; the time to build the graph and run the first step; the peak of
resident memory, and how far it is above the level before building; each also as
a ratio to Lingvo's engine. Then, where the same variant also ran bound to one
core, the efficiency T1 / (K TK) beside its bound M / (M + K - 1).
"""

import argparse
import sys
from collections.abc import Sequence

from lingvo_gpipe.benchmark import (
  cases,
  conditions,
  output_files,
  process_memory,
  speed,
  speed_report,
)
from lingvo_gpipe.benchmark.child_process import ChildError

_EXAMPLES = """
examples:
  tools/benchmark.py                       both cases, all variants
  tools/benchmark.py --case tiny           does everything run? in a minute
  tools/benchmark.py --case wide --variants lingvo,ours-gpipe-always \\
      --runs 3 --json /tmp/wide.json --markdown /tmp/wide.md
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/benchmark.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--case',
    default=','.join(case.name for case in cases.CASES),
    help='Cases, with commas: '
    + '; '.join(map(str, (*cases.CASES, cases.TINY_CASE)))
    + '. Default: %(default)s.',
  )
  parser.add_argument(
    '--variants',
    default=','.join(variant.name for variant in cases.VARIANTS),
    help='Variants, with commas. Default: all, %(default)s.',
  )
  for name, default, what in (
    ('runs', 1, 'How often all processes are started anew.'),
    ('rounds', 5, 'How often the variants take turns.'),
    ('steps', 3, 'Steps a turn.'),
  ):
    parser.add_argument(
      f'--{name}', type=int, default=default, help=f'{what} Default: {default}.'
    )
  parser.add_argument(
    '--alive',
    action='store_true',
    help='Have the C library give freed blocks back at once: peaks are then '
    'what is really alive, and the steps are slow.',
  )
  parser.add_argument('--json', help='A file for all figures.')
  parser.add_argument('--markdown', help='A file for the tables.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  try:
    chosen = cases.named_cases(args.case.split(','))
    variants = cases.named_variants(args.variants.split(','))
    plan = speed.Plan(
      args.runs,
      args.rounds,
      args.steps,
      process_memory.MAPPED_BLOCKS_ENV if args.alive else {},
    )
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  text = conditions.describe(machine)
  if args.alive:
    text += '\nFreed blocks go back at once: peaks are exact, steps are slow.'
  print(text, flush=True)
  reports = []
  for case in chosen:
    try:
      measured = speed.measure(case, variants, plan, _say)
    except ChildError as error:
      print(f'benchmark.py: {error}', file=sys.stderr)
      return 1
    report = speed_report.CaseReport(case, measured)
    reports.append(report)
    part = speed_report.as_text(report)
    print(f'\n{part}', flush=True)
    text += f'\n\n{part}'
  output_files.write_text(args.markdown, text)
  output_files.write_json(
    args.json,
    {
      'conditions': {**machine, 'alive': args.alive},
      'cases': [*map(speed_report.as_json, reports)],
    },
  )
  return 0


def _say(text: str) -> None:
  print(f'  {text}', file=sys.stderr, flush=True)
