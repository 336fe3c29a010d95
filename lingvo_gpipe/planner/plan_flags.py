# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The flags of the planner."""

import argparse
import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from lingvo_gpipe.cutting import units
from lingvo_gpipe.planner import sweep_picture
from lingvo_gpipe.schedules import FIT, RECOMPUTE_POLICIES

_T = TypeVar('_T')

_EXAMPLES = """
examples:
  lingvo_gpipe_plan --model=image.imagenet.AmoebaNetD72x512 --devices=8 \\
    --device_memory=8GiB --device_speed=45TFLOPS --link_speed=12GB/s
  lingvo_gpipe_plan image.imagenet.AmoebaNetD18x256 --num_partitions=2,4,8
  lingvo_gpipe_plan --model=lm.paper.Transformer103 --device_memory=16GiB \\
    --sweep=plan.md,plan.csv,plan.json,plan.png
  lingvo_gpipe_plan --model=lm.paper.Transformer103 --devices=8 \\
    --device_memory=16GiB --largest
"""
# Lengths of AmoebaNets among which --largest looks.
LENGTHS = (12, 18, 24, 36, 48, 72, 96)
_SUFFIXES = ('.md', '.csv', '.json', '.png')
_ALL_FILES = ','.join(f'plan{suffix}' for suffix in _SUFFIXES)


def checked(
  parse: Callable[[str], _T], is_right: Callable[[_T], bool], what: str
) -> Callable[[str], _T]:
  """A type for argparse that says what it wants."""

  def parse_flag(text: str) -> _T:
    with contextlib.suppress(ValueError):
      value = parse(text)
      if is_right(value):
        return value
    raise argparse.ArgumentTypeError(f'{text!r} is not a {what}')

  return parse_flag


def _speed(parse: Callable[[str], float]) -> Callable[[str], float]:
  """A type for argparse whose errors are those of a parser."""

  def parse_flag(text: str) -> float:
    try:
      return parse(text)
    except ValueError as error:
      raise argparse.ArgumentTypeError(str(error)) from error

  return parse_flag


def _list(text: str) -> tuple[int, ...]:
  return tuple(int(part) for part in text.split(','))


_number = checked(int, lambda n: n > 0, 'number of 1 or more')
_numbers = checked(
  _list, lambda ns: min(ns) > 0, 'list of numbers of 1 or more such as 2,4,8'
)


def _names(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
  return checked(
    lambda text: tuple(text.split(',')),
    lambda names: set(names) <= set(allowed),
    f'list of {", ".join(allowed)}',
  )


_files = checked(
  lambda text: tuple(text.split(',')),
  lambda names: all(pathlib.Path(n).suffix in _SUFFIXES for n in names),
  f'list of files that end in {", ".join(_SUFFIXES)}',
)


_picture = checked(
  str, lambda name: name.endswith('.png'), 'file that ends in .png'
)


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
  """The parser of all flags."""
  made = argparse.ArgumentParser(
    program,
    description=description,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument('model_name', nargs='?', metavar='model', help='--model.')
  made.add_argument(
    '--model', help='A registered model, such as image.digits.AmoebaNetD.'
  )
  _add_machine(made.add_argument_group('devices'))
  _add_ways(made.add_argument_group('ways to run the model'))
  _add_costs(made.add_argument_group('costs'))
  _add_more(made.add_argument_group('more than one plan'))
  return made


def _add_machine(group: argparse._ArgumentGroup) -> None:
  add = group.add_argument
  add('--devices', type=_number, help='Number of devices. Default: K.')
  add(
    '--num_partitions',
    type=_numbers,
    default=(),
    help='K, the number of cells; several with commas. Default: one per '
    'device, or as the model says.',
  )
  add(
    '--device_memory',
    help="What a device may hold, such as '8GiB'. Default: as the model says.",
  )
  add(
    '--device_speed',
    type=_speed(units.parse_flops),
    help='FLOP/s that a device reaches (not its peak), such as 45TFLOPS. '
    'Without this flag times are relative.',
  )
  add(
    '--link_speed',
    type=_speed(units.parse_bandwidth),
    help='Speed of a link between devices, such as 12GB/s. Default: transfers '
    'take no time.',
  )
  add(
    '--link_latency',
    type=_speed(units.parse_seconds),
    default=0.0,
    help='Additional time of each transfer, such as 5us.',
  )
  add(
    '--step_overhead',
    type=_speed(units.parse_seconds),
    default=0.0,
    help='Time of a step outside its tasks, such as 2ms: to start the step, '
    'and to learn that it is done.',
  )


def _add_ways(group: argparse._ArgumentGroup) -> None:
  add = group.add_argument
  add(
    '--num_micro_batches',
    type=_numbers,
    default=(),
    help='Consider only these M; several with commas.',
  )
  add(
    '--schedule',
    type=lambda text: tuple(text.split(',')),
    default=(),
    help='Consider only these schedules: names, several with commas, or '
    'file:PATH.',
  )
  add(
    '--recompute',
    type=_names((*RECOMPUTE_POLICIES, FIT)),
    default=(),
    help='Consider only these recompute policies. Default: all, with '
    f'{FIT!r} where there is a device memory.',
  )
  add(
    '--as_registered',
    action='store_true',
    help="Consider only the model's own M, schedule and recompute policy.",
  )
  add(
    '--min_examples',
    type=_number,
    default=1,
    help='Leave out micro-batches with fewer examples: batch norm needs '
    'several, and devices are slow with few. Default: %(default)s.',
  )
  add('--all', action='store_true', help='Also show what does not fit.')
  add(
    '--picture',
    type=_picture,
    help="A PNG to draw the devices' memory over the time of a step to, for "
    'what is recommended.',
  )
  add(
    '--batch_size',
    type=_number,
    help='Examples in a mini-batch. Default: M times the examples of '
    'input_shapes, as the model says.',
  )


def _add_costs(group: argparse._ArgumentGroup) -> None:
  add = group.add_argument
  add(
    '--balance',
    type=lambda text: tuple(text.split(',')),
    default=('',),
    help="What the cut balances: 'flops', 'params' or 'measured'; "
    'several with commas. Default: as the model says.',
  )
  for name, what in (
    ('input_shapes', 'Shapes of one micro-batch of the input.'),
    ('side_input_shapes', 'The same for side inputs.'),
    ('target_shapes', 'The same for the targets.'),
    ('costs_file', 'A file that keeps measured costs.'),
  ):
    add(f'--{name}', help=f'{what} Default: as the model says.')


def _add_more(group: argparse._ArgumentGroup) -> None:
  add = group.add_argument
  add(
    '--sweep',
    type=_files,
    nargs='?',
    const=_files(_ALL_FILES),
    help='Plan for each K (--num_partitions, or powers of two up to --devices) '
    f'and M, and write the files named. Default: {_ALL_FILES}.',
  )
  add(
    '--largest',
    action='store_true',
    help="Find the largest models of the model's family that fit: AmoebaNets "
    'of several L with the largest D, the longest Transformer. M stays as the '
    'model says, unless --num_micro_batches is given.',
  )
  add(
    '--lengths',
    type=checked(
      _list,
      lambda ns: all(n > 0 and n % 3 == 0 for n in ns),
      'list of multiples of 3',
    ),
    default=(),
    help=f'L of AmoebaNets for --largest. Default: '
    f'{",".join(map(str, LENGTHS))}.',
  )
  add('--max_width', type=_number, default=4096, help='The largest D.')
  add('--max_length', type=_number, default=4096, help='The largest L.')


def parse(
  made: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
  """Parses flags; what is wrong ends the program with status 2."""
  args = made.parse_args(argv)
  if args.model and args.model_name:
    made.error(
      f'{args.model_name!r} and --model={args.model} are two models; give one'
    )
  args.model = args.model or args.model_name
  if not args.model:
    made.error('give a model, such as --model=image.digits.AmoebaNetD')
  if args.sweep is not None and args.largest:
    made.error('give --sweep or --largest, not both')
  if args.as_registered and (
    args.num_micro_batches or args.schedule or args.recompute
  ):
    made.error(
      '--as_registered uses the M, schedule and recompute policy of the model: '
      'leave out --num_micro_batches, --schedule and --recompute'
    )
  if args.picture and (
    args.sweep is not None
    or args.largest
    or len(args.balance) * max(len(args.num_partitions), 1) > 1
  ):
    made.error('--picture draws one plan: leave out what makes several')
  for flag, files in (
    ('sweep', args.sweep or ()),
    ('picture', filter(None, [args.picture])),
  ):
    if not sweep_picture.available() and (
      any(name.endswith('.png') for name in files)
    ):
      made.error(f'--{flag}: {sweep_picture.NEEDS_MATPLOTLIB}')
  return args


def powers_of_two(most: int) -> list[int]:
  """1, 2, 4, ... up to a number, and the number."""
  return sorted({*(2**i for i in range(most.bit_length())), most})
