# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times pipelined training steps, side by side with other ways to train.

Compared, for each model, K, M, schedule and recompute policy: this package;
Lingvo's own GPipe; naive model parallelism; no pipeline; and PyTorch's
pipelining, if there is an interpreter that has it. Every variant runs in a
process of its own; they take turns, so that all of them see the same machine.
Then each runs again with a process for each device, for its memory.
docs/benchmark.md says what the columns mean.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence

from lingvo_gpipe.training import cores
from lingvo_gpipe.training.command import at_least
from tools.benchmark import cases, speed, speed_report, variants
from tools.common import command, conditions, fresh

_PROGRAM = 'tools/benchmark.py'
# What fits into some six minutes, and shows each model and engine.
_DEFAULT_CASES = 'wide,amoebanet,transformer'
_DEFAULT_VARIANTS = (
  *('lingvo', 'ours-gpipe-always', 'ours-1f1b-always', 'ours-1f1b-never'),
  *('naive', 'plain', 'plain-all_cores'),
  *('torch-1f1b-always', 'torch-1f1b-never'),
)
_EXAMPLES = f"""\
  {_PROGRAM}                        the tables in docs/benchmark.md
  {_PROGRAM} --case=tiny            does everything run? in a minute
  {_PROGRAM} --case=transformer --cells=2,4 --micro_batches=4,8,16 \\
      --variants=lingvo,ours-1f1b-never --json=/tmp/lm.json
  {_PROGRAM} --case=wide,long --variants=lingvo,ours-gpipe-always --runs=3
"""


def _parser() -> command.Parser:
  result = command.Parser(_PROGRAM, __doc__, _EXAMPLES)
  flag, one_of = result.flag, command.one_of
  known = '; '.join(
    f'{case} K={case.num_cells} M={case.num_micro_batches}'
    for case in cases.BY_NAME.values()
  )
  what = f'Cases, with commas: {known}.'
  flag('case', _DEFAULT_CASES, what, one_of(cases.BY_NAME))
  for name, what in (('cells', 'K'), ('micro_batches', 'M')):
    what += ", several with commas. Default: the case's own."
    flag(name, (), what, command.numbers)
  what = (
    'Variants, with commas: lingvo, naive, plain, plain-all_cores, '
    'ours-SCHEDULE-RECOMPUTE, torch-SCHEDULE-RECOMPUTE. Default: '
    f'{",".join(_DEFAULT_VARIANTS)}.'
  )
  flag('variants', (), what, one_of(tuple(variants.METHODS)))
  what = 'An interpreter that has torch. Without it PyTorch is left out.'
  flag('torch_python', '', what)
  _add_amounts(result)
  result.outputs('tables')
  return result


def _add_amounts(result: command.Parser) -> None:
  flag, positive = result.flag, command.positive
  flag('runs', 1, 'How often all processes are started anew.', positive)
  flag('rounds', 3, 'How often the variants take turns.', positive)
  flag('steps', 2, 'Steps a turn.', positive)
  what = 'Steps a turn on one core; 0 for none.'
  flag('one_core_steps', 1, what, at_least(0))
  result.add_argument(
    '--no_memory',
    action='store_true',
    help="Do not measure the devices' memory, which takes as long as the rest.",
  )


def _methods(args: argparse.Namespace) -> tuple[list[variants.Method], str]:
  """The methods, and a line on those that are left out.

  Raises:
    ValueError: PyTorch is asked for, and cannot be run.
  """
  names = args.variants or _DEFAULT_VARIANTS
  methods = [variants.METHODS[name] for name in names]
  own = [m for m in methods if m.engine != 'torch']
  if args.torch_python or own == methods:
    return methods, ''
  why = (
    "PyTorch's pipelining is left out: it takes an interpreter with torch. "
    'python -m venv ENV && ENV/bin/pip install torch, then '
    '--torch_python=ENV/bin/python.'
  )
  if args.variants:
    raise ValueError(why)
  return own, why


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  arguments = sys.argv[1:] if argv is None else argv
  parser = _parser()
  args = parser.parse_args(arguments)
  parser.needs_linux()
  try:
    methods, left_out = _methods(args)
    wanted = {
      case: variants.expand(case, methods, args.cells, args.micro_batches)
      for case in (cases.BY_NAME[name] for name in args.case)
    }
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  typed = shlex.join([_PROGRAM, *arguments])
  typed = re.sub(r'(--torch_python[= ])\S+', r'\1PYTHON', typed)
  parts = [conditions.describe(machine), f'`{typed}`']
  parts += filter(None, [left_out])
  print('\n\n'.join(parts), flush=True)
  plan = speed.Plan(
    *(args.runs, args.rounds, args.steps, args.one_core_steps),
    memory=not args.no_memory,
    torch_python=args.torch_python,
  )
  reports = []
  try:
    with fresh.AliveOnly(cores.num_usable()) as alive_only:
      for case, of_case in wanted.items():
        reports.append(speed.measure(case, of_case, plan, alive_only))
        parts.append(speed_report.as_text(reports[-1]))
        print(f'\n{parts[-1]}', flush=True)
  except command.MeasuringError as error:
    return parser.failed(error)
  parts.append(speed_report.legend(reports))
  print(f'\n{parts[-1]}', flush=True)
  figures = {
    'conditions': machine,
    'command': typed,
    'cases': [*map(speed_report.as_json, reports)],
  }
  command.write(args, '\n\n'.join(parts), figures)
  return int(any(m.error for r in reports for m in r.measured.values()))
