# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Plans a pipeline for a registered model, without building it.

It prints how the model is cut, what each device needs, by kind, and what a step
takes by schedule, number of micro-batches and recompute policy; it recommends
one of these, and says why. The mini-batch stays as the model says; M changes
the micro-batches. Nothing of the model takes memory, however large it is; with
--balance=measured one layer of each kind does.

`lingvo_gpipe_plan schedule NAME` draws and times a schedule, without a model:
see `lingvo_gpipe_plan schedule --help`.
"""

import argparse
import dataclasses
import pathlib
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import tqdm

from lingvo_gpipe.cutting import units
from lingvo_gpipe.planner import plan_flags, schedule_command

_PROGRAM = 'lingvo_gpipe_plan'


def pipeline_params(model: str) -> Any:
  """Params of the GPipeSequentialLayer of a registered model.

  Raises:
    UserError: There is no such model, or it has no such layer.
  """
  from lingvo_gpipe.planner import registered

  return registered.layer_params(model)


@dataclasses.dataclass(frozen=True)
class _Request:
  """What was asked for.

  Attributes:
    args: The flags.
    registered: Params of the GPipeSequentialLayer, with what flags set in them.
      Those of a large model take seconds to make, and to copy.
    overrides: What that is.
    device_memory: Bytes, or None.
  """

  args: argparse.Namespace
  registered: Any
  overrides: dict[str, Any]
  device_memory: int | None

  def params(self, balance: str = '') -> Any:
    """Params of the layer, the last that were asked for changed in place."""
    return self.registered.Set(balance=balance) if balance else self.registered

  def workload(self, params: Any) -> Any:
    """What there is to plan for."""
    from lingvo_gpipe.planner import registered

    work = registered.workload(self.args.model, params, self.args.batch_size)
    return dataclasses.replace(work, min_examples=self.args.min_examples)

  def ways(self, work: Any, cells: int) -> list[Any]:
    """The settings to look at, with K cells."""
    from lingvo_gpipe import schedules
    from lingvo_gpipe.planner import recommend

    args = self.args
    devices, per_device = cells, 0
    if args.num_partitions and args.devices:
      devices = args.devices
      per_device, rest = divmod(cells, devices)
      if rest or not per_device:
        raise ValueError(
          f'--num_partitions {cells} is not a multiple of --devices={devices}.'
        )
    chosen = args.num_micro_batches, args.schedule, args.recompute
    if args.as_registered:
      chosen = (work.num_micro_batches,), (work.schedule,), (work.recompute,)
    for name in chosen[1]:
      schedules.check_name(name)
      if name != 'gpipe' and work.schedules == ('gpipe',):
        raise ValueError(
          f'--schedule {name!r}: {work.name} can only run gpipe, because its '
          'loss is outside the pipeline. Use gpipe, or set loss_tpl.'
        )
    return recommend.settings(
      work,
      devices,
      per_device,
      micro_batches=chosen[0],
      schedules=chosen[1],
      recompute=chosen[2],
      device_memory=self.device_memory,
    )

  def speeds(self, basis: str) -> Any:
    """How fast devices and links are."""
    from lingvo_gpipe.planner import forecast

    args = self.args
    seconds = 1.0 if basis == 'measured' else None
    if args.device_speed is not None:
      if basis != 'flops':
        raise ValueError(
          f'--device_speed is in FLOP/s, but the costs are {basis!r}; use '
          '--balance=flops, which needs input_shapes.'
        )
      seconds = 1 / args.device_speed
    return forecast.Speeds(
      seconds, args.link_speed, args.link_latency, args.step_overhead
    )


def _request(args: argparse.Namespace) -> _Request:
  """Reads the flags; ValueError if they make no sense together."""
  from lingvo_gpipe.costing import pipeline_plan

  overrides: dict[str, Any] = {}
  if args.input_shapes is not None:
    # Shapes given anew make the others unknown.
    overrides.update(side_input_shapes='', target_shapes='')
  for name in ('input_shapes', 'side_input_shapes', 'target_shapes'):
    if getattr(args, name) is not None:
      overrides[name] = getattr(args, name)
  if args.costs_file is not None:
    overrides['costs_file'] = args.costs_file
  params = pipeline_params(args.model).Set(**overrides)
  if args.device_memory is not None:
    params.device_memory = args.device_memory
  memory = pipeline_plan.device_memory(params)
  return _Request(args, params, overrides, memory)


def _plan(request: _Request) -> None:
  """Prints a plan for each balance and number of cells."""
  from lingvo_gpipe.costing import pipeline_plan
  from lingvo_gpipe.planner import memory_picture, recommend, report

  args = request.args
  for balance in args.balance:
    started = time.monotonic()
    params = request.params(balance)
    work = request.workload(params)
    speeds = request.speeds(work.basis)
    for cells in args.num_partitions or (_default_cells(args, params),):
      splits = pipeline_plan.splits_of(params)
      # Only a terminal shows it.
      ways = tqdm.tqdm(
        request.ways(work, cells), 'Planning', delay=5, disable=None
      )
      forecasts = recommend.forecasts(
        work,
        ways,
        speeds,
        request.device_memory,
        splits or None,
      )
      if not (args.schedule or args.as_registered or splits):
        forecasts = recommend.with_auto(forecasts, request.device_memory)
      plan = report.PlanReport(
        work,
        tuple(forecasts),
        request.device_memory,
        absolute=speeds.are_absolute,
        show_all=args.all,
      )
      print(f'\n{plan.to_text()}\n{_spent(started)}')
      if args.picture:
        memory_picture.draw(args.picture, plan.shown, request.device_memory)
        print(f'Written: {args.picture}')


def _default_cells(args: argparse.Namespace, params: Any) -> int:
  """K: one cell a device, or as the model says."""
  return args.devices or params.num_partitions or len(params.splits) + 1


def _spent(started: float) -> str:
  megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  return (
    f'Planned in {time.monotonic() - started:.1f} s; the peak memory of this '
    f'process is {megabytes:.0f} MB.'
  )


def _sweep(request: _Request) -> None:
  """Prints the best way for each K and M, and writes it to files."""
  from lingvo_gpipe.planner import sweep, sweep_picture

  args = request.args
  params = request.params(args.balance[0])
  work = request.workload(params)
  speeds = request.speeds(work.basis)
  most = args.devices or max(params.num_partitions, 8)
  forecasts = sweep.sweep(
    work,
    args.num_partitions or plan_flags.powers_of_two(most),
    speeds,
    request.device_memory,
    micro_batches=args.num_micro_batches,
    schedules=args.schedule,
    recompute=args.recompute,
  )
  table = sweep.as_text(work, forecasts, absolute=speeds.are_absolute)
  title = f'{work.name}: the best way for each number of devices and M'
  print(f'\n{title}\n{table}')
  memory = request.device_memory
  texts = {
    '.md': f'{title}\n\n{table}\n',
    '.csv': sweep.as_csv(work, forecasts),
    '.json': sweep.as_json(work, forecasts, memory) + '\n',
  }
  for path in map(pathlib.Path, args.sweep):
    if path.suffix == '.png':
      sweep_picture.draw(str(path), work, forecasts, memory)
    else:
      path.write_text(texts[path.suffix], encoding='utf-8')
  print(f'Written: {", ".join(args.sweep)}')


def _largest(request: _Request) -> None:
  """Prints the largest models of the family that fit."""
  from lingvo_gpipe import schedules
  from lingvo_gpipe.planner import largest, registered

  args = request.args
  if request.device_memory is None:
    raise ValueError('--largest needs --device_memory, such as 8GiB.')
  started = time.monotonic()
  family = registered.Family(
    args.model, **request.overrides, num_partitions=0, splits=[]
  )
  cells = args.devices or request.params().num_partitions or 1

  def ways(work: Any) -> list[Any]:
    # Other M would be other micro-batches: a model trains with those it has.
    numbers = args.num_micro_batches or (work.num_micro_batches,)
    # The others gain time, and next to no memory; this is asked often.
    names = [n for n in schedules.PLAIN_NAMES if n in work.schedules]
    changes = {
      'num_micro_batches': numbers,
      'schedule': args.schedule or tuple(names),
    }
    copy = argparse.Namespace(**{**vars(args), **changes})
    return dataclasses.replace(request, args=copy).ways(work, cells)

  search = largest.Search(
    family.workload, ways, request.device_memory, request.speeds('flops')
  )
  kind = family.kind
  if kind.width:
    steps = range(kind.width_step, args.max_width + 1, kind.width_step)
    lengths = args.lengths or plan_flags.LENGTHS
    models = search.widest(lengths, steps)
  else:
    first = max(cells - 2, 1)
    models = search.longest(range(first, max(args.max_length, first) + 1))
  memory = units.format_bytes(request.device_memory)
  if not models:
    print(f'No {kind.name} fits into {cells} devices of {memory}.')
    return
  best = largest.largest_of(models)
  print(
    f'\nLargest models like {args.model}, K = {cells}, {memory} a device:\n'
    f'{largest.as_text(models)}\n{best.workload.name} has most parameters, '
    f'{best.workload.parameters:,}.\n{_spent(started)}'
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  argv = sys.argv[1:] if argv is None else argv
  if argv[:1] == ['schedule']:
    return schedule_command.main(argv[1:])
  parser = plan_flags.parser(_PROGRAM, __doc__)
  args = plan_flags.parse(parser, argv)
  from lingvo_gpipe.training import user_error

  try:
    request = _request(args)
    if args.largest:
      _largest(request)
    elif args.sweep is not None:
      _sweep(request)
    else:
      _plan(request)
  except (user_error.UserError, ValueError) as error:
    print(f'{_PROGRAM}: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
