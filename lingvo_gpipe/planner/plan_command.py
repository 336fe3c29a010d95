# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints how a registered model would be cut, without building it.

For each number of cells: the table that the model itself would log, and how
long planning took. Nothing of the model takes memory, however large it is;
with --balance=measured one layer of each kind does.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

_EXAMPLES = """
examples:
  tools/plan.py image.imagenet.AmoebaNetD18x256 --num_partitions 2,4,8
  tools/plan.py image.imagenet.AmoebaNetD18x544 --device_memory 8GiB
  tools/plan.py image.imagenet.AmoebaNetD18x256 --balance flops,measured \\
    --input_shapes 'float32[2,64,64,3]'
"""


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/plan.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('model', help='A registered model, such as image.digits.AmoebaNetD.')
  add(
    '--num_partitions',
    default='0',
    help='K, several with commas. Default: as the model says.',
  )
  add(
    '--balance',
    default='',
    help="What to have in equal parts, such as 'flops'; several with commas. "
    'Default: as the model says.',
  )
  add('--num_micro_batches', type=int, help='M. Default: as the model says.')
  for name, what in (
    ('schedule', "The schedule's name."),
    ('recompute', 'The recompute policy.'),
    ('input_shapes', 'Shapes of one micro-batch of the input.'),
    ('side_input_shapes', 'The same for side inputs.'),
    ('target_shapes', 'The same for the targets.'),
    ('device_memory', "What a device may hold, such as '8GiB'."),
    ('costs_file', 'Keeps what was measured.'),
  ):
    add(f'--{name}', help=f'{what} Default: as the model says.')
  return parser


def pipeline_params(model: str) -> Any:
  """Params of the GPipeSequentialLayer of a registered model.

  Raises:
    UserError: There is no such model, or it has no such layer.
  """
  from lingvo import model_registry

  from lingvo_gpipe import sequential_layer
  from lingvo_gpipe.training import model_lookup, pipeline_params, user_error

  key = model_lookup.find_model(model)
  task = model_registry.GetClass(key)().Task()
  # Our tasks add what only they know: the loss, and shapes of targets.
  complete = getattr(task.cls, 'PipelineParams', None)
  if complete is not None:
    found = complete(task)
  else:
    found = pipeline_params.find_layer(
      task, sequential_layer.GPipeSequentialLayer
    )
  if found is None or not issubclass(
    found.cls, sequential_layer.GPipeSequentialLayer
  ):
    raise user_error.UserError(
      f'{model} has no GPipeSequentialLayer, so there is nothing to plan.'
    )
  return found.Copy().Set(name=found.name or 'pipeline')


def _numbers(text: str) -> list[int]:
  return [int(part) for part in text.split(',')]


def _override(params: Any, args: argparse.Namespace) -> None:
  """Sets what flags name; shapes given anew make the others unknown."""
  shapes = ('input_shapes', 'side_input_shapes', 'target_shapes')
  if args.input_shapes is not None:
    params.Set(**dict.fromkeys(shapes, ''))
  for name in (
    'num_micro_batches',
    'schedule',
    'recompute',
    'device_memory',
    'costs_file',
    *shapes,
  ):
    value = getattr(args, name)
    if value is not None:
      params.Set(**{name: value})


def _print_plan(params: Any, num_partitions: int) -> None:
  from lingvo_gpipe import sequential_layer

  started = time.monotonic()
  num_devices = num_partitions or params.num_partitions or 1
  plan = sequential_layer.GPipeSequentialLayer.Plan(
    params.Set(num_partitions=num_devices), num_devices
  )
  seconds = time.monotonic() - started
  megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  print(f'\nK = {num_devices}, cut by {plan.basis}, {len(plan.layers)} layers')
  print(plan.table().to_text())
  print(
    f'Planned in {seconds:.1f} s; the peak memory of this process is '
    f'{megabytes:.0f} MB.'
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  args = _parser().parse_args(argv)
  try:
    partitions = _numbers(args.num_partitions)
  except ValueError:
    print(
      f'tools/plan.py: --num_partitions {args.num_partitions!r} is no list of '
      'numbers such as 2,4,8.',
      file=sys.stderr,
    )
    return 2
  import lingvo_gpipe  # noqa: F401  (before Lingvo)
  from lingvo_gpipe.training import user_error

  try:
    params = pipeline_params(args.model)
    _override(params, args)
    for balance in args.balance.split(','):
      for num_partitions in partitions:
        copy = params.Copy()
        if balance:
          copy.balance = balance
        _print_plan(copy, num_partitions)
  except (user_error.UserError, ValueError) as error:
    print(f'tools/plan.py: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
