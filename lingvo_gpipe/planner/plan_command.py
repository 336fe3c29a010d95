# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Plans a pipeline for a registered model, without building it.

It prints how the model is cut, what each device needs, and what a step takes by
schedule, number of micro-batches M and recompute policy. It recommends one of
these, and says why. The mini-batch stays as the model says. The model takes no
memory; with --balance=measured one layer of each kind does.

`lingvo_gpipe_plan schedule NAME` draws and times a schedule, without a model:
see `lingvo_gpipe_plan schedule --help`.
"""

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe.cutting import units
from lingvo_gpipe.planner import schedule_command
from lingvo_gpipe.planner.schedule_command import checked
from lingvo_gpipe.schedules import FIT, RECOMPUTE_POLICIES

_PROGRAM = 'lingvo_gpipe_plan'
_EXAMPLES = """
examples:
  lingvo_gpipe_plan --model=image.imagenet.AmoebaNetD72x512 --devices=8 \\
    --device_memory=8GiB --device_speed=45TFLOPS --link_speed=12GB/s
  lingvo_gpipe_plan image.imagenet.AmoebaNetD18x256 --num_partitions=2,4,8
  lingvo_gpipe_plan --model=lm.paper.Transformer103 --device_memory=16GiB \\
    --sweep=plan.md,plan.json,plan.png
  lingvo_gpipe_plan --model=lm.paper.Transformer103 --devices=8 \\
    --device_memory=16GiB --largest
"""
# Lengths of AmoebaNets among which --largest looks.
_LENGTHS = (12, 18, 24, 36, 48, 72, 96)
_SUFFIXES = ('.md', '.json', '.png')
_ALL_FILES = tuple(f'plan{suffix}' for suffix in _SUFFIXES)
_AS_MODEL = 'Default: as the model says.'


def _list(text: str) -> tuple[int, ...]:
  return tuple(int(part) for part in text.split(','))


def _names(text: str) -> tuple[str, ...]:
  return tuple(text.split(','))


_number = checked(int, 'number of 1 or more', lambda n: n > 0)
_numbers = checked(
  _list, 'list of numbers of 1 or more such as 2,4,8', lambda ns: min(ns) > 0
)
_lengths = checked(
  _list,
  'list of multiples of 3',
  lambda ns: all(n > 0 and n % 3 == 0 for n in ns),
)
_policies = (*RECOMPUTE_POLICIES, FIT)
_recompute = checked(
  _names,
  f'list of {", ".join(_policies)}',
  lambda names: set(names) <= set(_policies),
)
_files = checked(
  _names,
  f'list of files that end in {", ".join(_SUFFIXES)}',
  lambda names: all(pathlib.Path(name).suffix in _SUFFIXES for name in names),
)
_picture = checked(
  str, 'file that ends in .png', lambda name: name.endswith('.png')
)
_seconds = checked(units.parse_seconds, 'time such as 5us or 2ms')
_flops = checked(units.parse_flops, 'speed of a device such as 45TFLOPS')
_bandwidth = checked(units.parse_bandwidth, 'speed of a link such as 12GB/s')

# Names of flags, their types (None: there or not), defaults and what they do.
_FLAGS: tuple[tuple[str, Callable[[str], Any] | None, Any, str], ...] = (
  ('model', str, None, 'A registered model, such as image.digits.AmoebaNetD.'),
  ('devices', _number, None, 'Number of devices. Default: K.'),
  (
    *('num_partitions', _numbers, ()),
    'K, the number of cells; several with commas. Default: one per device, or '
    'as the model says.',
  ),
  ('device_memory', str, None, f"Of a device, such as '8GiB'. {_AS_MODEL}"),
  (
    *('device_speed', _flops, None),
    'FLOP/s that a device reaches (not its peak), such as 45TFLOPS. Without '
    'this flag times are relative.',
  ),
  ('link_speed', _bandwidth, None, 'Such as 12GB/s. Default: no limit.'),
  ('link_latency', _seconds, 0.0, 'Additional time of each transfer: 5us.'),
  ('num_micro_batches', _numbers, (), 'Only these M; several with commas.'),
  (
    *('schedule', _names, ()),
    'Only these schedules: names, several with commas, or file:PATH.',
  ),
  (
    *('recompute', _recompute, ()),
    f'Only these policies. Default: all; {FIT!r} needs a device memory.',
  ),
  ('as_registered', None, False, "Only the model's M, schedule and policy."),
  (
    *('min_examples', _number, 1),
    'Leave out micro-batches with fewer examples: batch norm needs several, '
    'and devices are slow with few. Default: %(default)s.',
  ),
  ('all', None, False, 'Also show what does not fit.'),
  (
    *('picture', _picture, None),
    "A PNG of the devices' memory over a step, for what is recommended.",
  ),
  (
    *('batch_size', _number, None),
    'Examples in a mini-batch. Default: M times those of input_shapes.',
  ),
  (
    *('balance', _names, ('',)),
    f"'flops', 'params' or 'measured'; several with commas. {_AS_MODEL}",
  ),
  ('input_shapes', str, None, f'Of a micro-batch of the input. {_AS_MODEL}'),
  ('side_input_shapes', str, None, 'The same for side inputs.'),
  ('target_shapes', str, None, 'The same for the targets.'),
  ('costs_file', str, None, f'Keeps measured costs. {_AS_MODEL}'),
  (
    *('largest', None, False),
    "Find the largest models of the model's family that fit: AmoebaNets of "
    'several L with the largest D, the longest Transformer. M stays as the '
    'model says, unless --num_micro_batches is given.',
  ),
  ('lengths', _lengths, _LENGTHS, 'L for --largest. Default: %(default)s.'),
  ('max_width', _number, 4096, 'The largest D for --largest.'),
  ('max_length', _number, 4096, 'The largest L for --largest.'),
)


def _parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    _PROGRAM,
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument('model_name', nargs='?', metavar='model', help='--model.')
  for name, parse, default, what in _FLAGS:
    kind: dict[str, Any] = {'action': 'store_true'}
    if parse is not None:
      kind = {'type': parse, 'default': default}
    made.add_argument(f'--{name}', help=what, **kind)
  made.add_argument(
    '--sweep',
    type=_files,
    nargs='?',
    const=_ALL_FILES,
    help='Plan for each K (--num_partitions, or powers of two up to --devices) '
    f'and M, and write the files named. Default: {",".join(_ALL_FILES)}.',
  )
  return made


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  made = _parser()
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
  files = [*(args.sweep or ()), args.picture or '']
  if any(name.endswith('.png') for name in files) and not (
    importlib.util.find_spec('matplotlib')
  ):
    made.error(
      "a picture needs matplotlib; install it with pip install 'matplotlib', "
      "or 'lingvo_gpipe[pictures]', or name no .png file"
    )
  return args


def main(argv: Sequence[str] | None = None) -> int:
  argv = sys.argv[1:] if argv is None else argv
  if argv[:1] == ['schedule']:
    return schedule_command.main(argv[1:])
  args = _parse(argv)
  # Not before flags are known to be right: it takes seconds.
  from lingvo_gpipe.planner import plans
  from lingvo_gpipe.training import user_error

  try:
    plans.Planner(args).run()
  except (user_error.UserError, ValueError) as error:
    print(f'{_PROGRAM}: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
