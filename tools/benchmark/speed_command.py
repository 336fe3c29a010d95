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
import dataclasses
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lingvo_gpipe.training import cores
from lingvo_gpipe.training.command import at_least
from tools.benchmark import cases, speed, speed_report
from tools.common import command, fresh

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
_NO_TORCH = (
  "PyTorch's pipelining is left out: it takes an interpreter with torch. "
  'python -m venv ENV && ENV/bin/pip install torch, then '
  '--torch_python=ENV/bin/python.'
)


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
  flag('variants', (), what, one_of(cases.METHODS))
  what = 'An interpreter that has torch. Without it PyTorch is left out.'
  flag('torch_python', '', what)
  positive = command.positive
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
  result.outputs('tables')
  return result


def _variants(args: argparse.Namespace) -> dict[cases.Case, list[cases.Case]]:
  """The variants of each case.

  Raises:
    ValueError: PyTorch is asked for and cannot be run, or K or M do not fit.
  """
  methods = args.variants or _DEFAULT_VARIANTS
  if not args.torch_python:
    methods = [name for name in methods if not name.startswith('torch')]
    if args.variants and len(methods) < len(args.variants):
      raise ValueError(_NO_TORCH)
  return {
    case: cases.variants(case, methods, args.cells, args.micro_batches)
    for case in (cases.BY_NAME[name] for name in args.case)
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  arguments = sys.argv[1:] if argv is None else argv
  parser = _parser()
  args = parser.parse_args(arguments)
  parser.needs_linux()
  try:
    wanted = _variants(args)
  except ValueError as error:
    parser.error(str(error))
  typed = shlex.join([_PROGRAM, *arguments])
  typed = re.sub(r'(--torch_python[= ])\S+', r'\1PYTHON', typed)
  names = [field.name for field in dataclasses.fields(speed.Plan)]
  plan = speed.Plan(**{name: getattr(args, name) for name in names})
  reports: list[speed_report.CaseReport] = []

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    figures: dict[str, Any] = {'command': typed, 'cases': []}
    with fresh.AliveOnly(cores.num_usable()) as alive_only:
      for case, of_case in wanted.items():
        reports.append(speed.measure(case, of_case, plan, alive_only))
        figures['cases'].append(speed_report.as_json(reports[-1]))
        yield speed_report.as_text(reports[-1]), figures
    yield speed_report.legend(reports), figures

  note = f'\n\n`{typed}`'
  if not (args.variants or args.torch_python):
    note += f'\n\n{_NO_TORCH}'
  status = command.report(parser, args, found(), note)
  return status or int(
    any(own.error for report in reports for own in report.measured.values())
  )
