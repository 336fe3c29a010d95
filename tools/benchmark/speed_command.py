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
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe import schedules
from tools.benchmark import (
  cases,
  command,
  conditions,
  process_memory,
  speed,
  speed_report,
  variants,
)
from tools.benchmark.cases import Case

_PROGRAM = 'tools/benchmark.py'
_BEGIN, _END = '<!-- benchmark:begin -->', '<!-- benchmark:end -->'
# What fits into some six minutes, and shows each model and engine.
_DEFAULT_CASES = ('wide', 'amoebanet', 'transformer')
_DEFAULT_VARIANTS = (
  *('lingvo', 'ours-gpipe-always', 'ours-1f1b-always', 'ours-1f1b-never'),
  *('naive', 'plain', 'plain-all_cores'),
  *('torch-1f1b-always', 'torch-1f1b-never'),
)
_DEFAULT_RECOMPUTE = ('always', 'never')
_VARIANT_NAMES = (
  *('lingvo', 'naive', 'plain', 'plain-all_cores'),
  *('ours-SCHEDULE-RECOMPUTE', 'torch-SCHEDULE-RECOMPUTE'),
)
_EXAMPLES = f"""\
  {_PROGRAM}                        the tables in docs/benchmark.md
  {_PROGRAM} --case=tiny            does everything run? in a minute
  {_PROGRAM} --model=transformer --cells=2,4 --micro_batches=4,8,16 \\
      --schedules=1f1b --recompute=never --json=/tmp/lm.json
  {_PROGRAM} --case=wide,long --variants=lingvo,ours-gpipe-always --runs=3
"""


def _parser(program: str) -> command.Parser:
  result = command.Parser(program, __doc__, _EXAMPLES)

  def add(
    name: str, what: str, default: str = '', kind: Any = command.names
  ) -> None:
    text = f'{what} Default: {default}.' if default else what
    result.add_argument(f'--{name}', type=kind, default=(), help=text)

  known = '; '.join(
    f'{case} K={case.num_cells} M={case.num_micro_batches}'
    for case in (*cases.CASES, *cases.TINY_CASES)
  )
  add('case', f'Cases, with commas: {known}.', ','.join(_DEFAULT_CASES))
  add(
    'model',
    'All cases of these models in place of --case, with commas: '
    f'{", ".join(cases.SPEED_MODELS)}.',
  )
  for name, what in (('cells', 'K'), ('micro_batches', 'M')):
    what = f'{what}, several with commas.'
    add(name, what, "the case's own", command.numbers)
  add(
    'schedules',
    'Schedules, with commas, of all engines that have a choice: '
    f'{", ".join(schedules.SCHEDULE_NAMES)}. With --recompute alone: '
    f'{",".join(schedules.PLAIN_NAMES)}.',
  )
  add(
    'recompute',
    'Policies, with commas, of all engines that have a choice: '
    f'{", ".join(schedules.RECOMPUTE_POLICIES)}. With --schedules alone: '
    f'{",".join(_DEFAULT_RECOMPUTE)}.',
  )
  add(
    'variants',
    'Variants, with commas, in place of --schedules and --recompute: '
    f'{", ".join(_VARIANT_NAMES)}.',
    ','.join(_DEFAULT_VARIANTS),
  )
  result.add_argument(
    '--torch_python',
    metavar='PYTHON',
    help='An interpreter that has torch. Default: the one that runs this.',
  )
  _add_amounts(result)
  result.outputs('tables')
  result.add_argument(
    '--readme',
    metavar='FILE',
    help=f'A Markdown file whose part between {_BEGIN} and {_END} is to be the '
    'tables.',
  )
  return result


def _add_amounts(result: command.Parser) -> None:
  flag, positive = result.flag, command.positive
  flag('runs', 1, 'How often all processes are started anew.', positive)
  flag('rounds', 3, 'How often the variants take turns.', positive)
  flag('steps', 2, 'Steps a turn.', positive)
  flag(
    'one_core_steps',
    1,
    'Steps a turn on one core; 0 for none.',
    command.at_least(0),
  )
  result.add_argument(
    '--no_memory',
    action='store_true',
    help="Do not measure the devices' memory, which takes as long as the rest.",
  )
  result.add_argument(
    '--alive',
    action='store_true',
    help='Have the C library give freed blocks back at once in the processes '
    'that are timed: their peaks are then what is really alive, and the steps '
    "are slow. The devices' memory is always measured so.",
  )


def _cases(args: argparse.Namespace) -> list[Case]:
  if args.case and args.model:
    raise ValueError('Use --case or --model, not both.')
  if args.model:
    return cases.cases_of_models(args.model)
  return cases.named_cases(args.case or _DEFAULT_CASES)


def _methods(args: argparse.Namespace) -> list[variants.Method]:
  if args.variants and (args.schedules or args.recompute):
    raise ValueError(
      '--variants names schedules and policies itself: use it without '
      '--schedules and --recompute.'
    )
  if args.schedules or args.recompute:
    return variants.methods_with(
      args.schedules or schedules.PLAIN_NAMES,
      args.recompute or _DEFAULT_RECOMPUTE,
    )
  return variants.named_methods(args.variants or _DEFAULT_VARIANTS)


def _without_torch(
  args: argparse.Namespace, methods: list[variants.Method]
) -> tuple[list[variants.Method], str]:
  """The methods that can be run, and a line on those that cannot."""
  python = args.torch_python or sys.executable
  if not any(m.engine == 'torch' for m in methods) or _has_torch(python):
    return methods, ''
  which = 'that of --torch_python' if args.torch_python else 'the one here'
  why = (
    "PyTorch's pipelining is left out: it takes an interpreter with torch, and "
    f'{which} has none. python -m venv ENV && ENV/bin/pip install torch, then '
    '--torch_python=ENV/bin/python.'
  )
  if args.variants:
    raise ValueError(why)
  return [m for m in methods if m.engine != 'torch'], why


def _has_torch(python: str) -> bool:
  look = (
    'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'
  )
  try:
    return not subprocess.run([python, '-c', look], check=False).returncode
  except OSError as error:
    raise ValueError(f'--torch_python={python}: {error.strerror}.') from error


def _plan(args: argparse.Namespace) -> speed.Plan:
  return speed.Plan(
    runs=args.runs,
    rounds=args.rounds,
    steps=args.steps,
    one_core_steps=args.one_core_steps,
    memory=not args.no_memory,
    torch_python=args.torch_python or sys.executable,
  )


def _section(path: str) -> Callable[[str], object]:
  """What replaces the tables of a Markdown file.

  Raises:
    ValueError: There is no such file, or it has not one of each comment, in
      this order.
  """
  file = pathlib.Path(path)
  if not file.is_file():
    raise ValueError(f'There is no file {path}.')
  before, *rest = file.read_text(encoding='utf-8').split(_BEGIN)
  if len(rest) != 1 or rest[0].count(_END) != 1 or _END in before:
    raise ValueError(
      f'{path} must have {_BEGIN} and {_END} once each, in this order.'
    )
  head, tail = before + _BEGIN, _END + rest[0].split(_END)[1]
  return lambda text: file.write_text(
    f'{head}\n\n{text.strip()}\n\n{tail}', encoding='utf-8'
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  program = sys.argv[0]
  if os.path.isabs(program):
    program = os.path.basename(program)
  arguments = sys.argv[1:] if argv is None else argv
  parser = _parser(program)
  args = parser.parse_args(arguments)
  parser.needs_linux()
  try:
    methods, left_out = _without_torch(args, _methods(args))
    replace = _section(args.readme) if args.readme else lambda text: None
    wanted = {
      case: variants.expand(case, methods, args.cells, args.micro_batches)
      for case in _cases(args)
    }
  except ValueError as error:
    parser.error(str(error))
  plan = _plan(args)
  minutes = speed.estimated_seconds(wanted, plan) / 60
  _say(f'this takes about {max(1, round(minutes))} min on a quiet machine')
  machine = conditions.now()
  typed = _command_line([program, *arguments])
  parts = [conditions.describe(machine), f'`{typed}`']
  if args.alive:
    parts.append('Freed blocks go back at once: peaks are exact, steps slow.')
    os.environ.update(process_memory.ALIVE_ONLY_ENV)
  parts += filter(None, [left_out])
  print('\n\n'.join(parts), flush=True)
  reports = []
  try:
    with speed.Benchmark(plan, _say) as benchmark:
      for case, of_case in wanted.items():
        reports.append(benchmark.measure(case, of_case))
        parts.append(speed_report.as_text(reports[-1]))
        print(f'\n{parts[-1]}', flush=True)
  except command.MeasuringError as error:
    return parser.failed(error)
  parts.append(speed_report.legend(reports))
  print(f'\n{parts[-1]}', flush=True)
  replace('\n\n'.join(parts))
  figures = {
    'conditions': {**machine, 'alive': args.alive},
    'command': typed,
    'cases': [*map(speed_report.as_json, reports)],
  }
  command.write(args, '\n\n'.join(parts), figures)
  return int(any(m.error for r in reports for m in r.measured.values()))


def _command_line(words: Sequence[str]) -> str:
  """What was typed, but for the path of another interpreter."""
  flag, shown = '--torch_python', []
  for i, word in enumerate(words):
    if word.startswith(f'{flag}='):
      word = f'{flag}=PYTHON'
    elif i and words[i - 1] == flag:
      word = 'PYTHON'
    shown.append(word)
  return shlex.join(shown)


def _say(text: str) -> None:
  command.say(f'  {text}')
