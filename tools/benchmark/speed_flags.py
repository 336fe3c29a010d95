# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The flags of the speed benchmark, and what they ask for."""

import argparse
import dataclasses
import subprocess
import sys
from typing import Any

from lingvo_gpipe import schedules
from tools.benchmark import cases, command, speed_estimate, variants
from tools.benchmark.cases import Case
from tools.benchmark.marked_section import MarkedSection

_PROGRAM = 'tools/benchmark.py'
_MARK = 'benchmark'
# What fits into some six minutes, and shows each model and engine.
_DEFAULT_CASES = ('wide', 'amoebanet', 'transformer')
_DEFAULT_VARIANTS = (
  *('lingvo', 'ours-gpipe-always', 'ours-1f1b-always', 'ours-1f1b-never'),
  *('naive', 'plain', 'plain-all_cores'),
  *('torch-1f1b-always', 'torch-1f1b-never'),
)
_DEFAULT_RECOMPUTE = ('always', 'never')
_EXAMPLES = f"""\
  {_PROGRAM}                        the tables in docs/benchmark.md
  {_PROGRAM} --case=tiny            does everything run? in a minute
  {_PROGRAM} --model=transformer --cells=2,4 --micro_batches=4,8,16 \\
      --schedules=1f1b --recompute=never --json=/tmp/lm.json
  {_PROGRAM} --case=wide,long --variants=lingvo,ours-gpipe-always --runs=3
"""


@dataclasses.dataclass(frozen=True)
class Request:
  """What is to be measured.

  Attributes:
    cases: The variants of each case.
    plan: How much.
    readme: The part of a file that the tables go to; None for nowhere.
    left_out: Which variants cannot be run, and what to do; '' if all can.
  """

  cases: dict[Case, list[variants.Variant]]
  plan: speed_estimate.Plan
  readme: MarkedSection | None = None
  left_out: str = ''


def parser(program: str, description: str | None) -> command.Parser:
  """The flags.

  Args:
    program: What the user typed.
    description: What it does.
  """
  result = command.Parser(program, description, _EXAMPLES)

  def add(
    name: str, what: str, default: str = '', kind: Any = command.names
  ) -> None:
    result.add_argument(
      f'--{name}',
      type=kind,
      default=(),
      help=f'{what} Default: {default}.' if default else what,
    )

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
    add(
      name, f'{what}, several with commas.', "the case's own", command.numbers
    )
  add(
    'schedules',
    'Schedules, with commas, of all engines that have a choice: '
    f'{", ".join(schedules.SCHEDULE_NAMES)}. With --recompute alone: all.',
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
    f'{_variant_names()}.',
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
    help='A Markdown file whose part between <!-- benchmark:begin --> and '
    '<!-- benchmark:end --> is to be the tables.',
  )
  return result


def _add_amounts(result: command.Parser) -> None:
  flag = result.flag
  flag('runs', 1, 'How often all processes are started anew.')
  flag('rounds', 3, 'How often the variants take turns.')
  flag('steps', 2, 'Steps a turn.')
  flag('one_core_steps', 1, 'Steps a turn on one core; 0 for none.')
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


def _variant_names() -> str:
  engines = [e for e in variants.ENGINES if e not in ('ours', 'torch')]
  configurable = [f'{e}-SCHEDULE-RECOMPUTE' for e in ('ours', 'torch')]
  return ', '.join([*engines, *configurable])


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
      args.schedules or schedules.SCHEDULE_NAMES,
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
  """Whether an interpreter has torch.

  Raises:
    ValueError: It cannot be started.
  """
  look = (
    'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'
  )
  try:
    return not subprocess.run([python, '-c', look], check=False).returncode
  except OSError as error:
    raise ValueError(f'--torch_python={python}: {error.strerror}.') from error


def _plan(args: argparse.Namespace) -> speed_estimate.Plan:
  return speed_estimate.Plan(
    runs=args.runs,
    rounds=args.rounds,
    steps=args.steps,
    one_core_steps=args.one_core_steps,
    memory=not args.no_memory,
    alive=args.alive,
    torch_python=args.torch_python or sys.executable,
  )


def wanted(args: argparse.Namespace) -> Request:
  """What the flags ask for.

  Raises:
    ValueError: They do not fit together, or name what there is not.
  """
  methods, left_out = _without_torch(args, _methods(args))
  return Request(
    {
      case: variants.expand(case, methods, args.cells, args.micro_batches)
      for case in _cases(args)
    },
    _plan(args),
    MarkedSection(args.readme, _MARK) if args.readme else None,
    left_out,
  )
