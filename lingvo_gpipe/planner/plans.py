# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the planner prints, by its flags."""

import argparse
import dataclasses
import functools
import pathlib
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import tqdm

from lingvo_gpipe import schedules
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.cutting import units
from lingvo_gpipe.planner import (
  largest,
  memory_over_time,
  recommend,
  registered,
  report,
  sweep,
)
from lingvo_gpipe.planner.forecast import Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload

_SHAPES = ('input_shapes', 'side_input_shapes', 'target_shapes')


class Planner:
  def __init__(self, args: argparse.Namespace):
    """Reads the flags; the methods too raise ValueErrors if they are wrong."""
    self._args = args
    self._overrides = {
      name: getattr(args, name)
      for name in (*_SHAPES, 'costs_file')
      if getattr(args, name) is not None
    }
    if args.input_shapes is not None:
      # Shapes given anew make the others unknown.
      self._overrides = {**dict.fromkeys(_SHAPES, ''), **self._overrides}
    # Those of a large model take seconds to make, and to copy.
    self._params = registered.layer_params(args.model).Set(**self._overrides)
    if args.device_memory is not None:
      self._params.device_memory = args.device_memory
    self._memory = pipeline_plan.device_memory(self._params)
    self._started = time.monotonic()

  def run(self) -> None:
    if self._args.largest:
      self._largest()
    elif self._args.sweep is not None:
      self._sweep()
    else:
      for balance in self._args.balance:
        self._plan(balance)

  def _plan(self, balance: str) -> None:
    args = self._args
    work, speeds = self._workload(balance)
    splits = pipeline_plan.splits_of(self._params)
    cells_by_default = (
      args.devices or self._params.num_partitions or len(splits) + 1
    )
    for cells in args.num_partitions or (cells_by_default,):
      # Only a terminal shows it.
      ways = tqdm.tqdm(
        self._ways(work, cells), 'Planning', delay=5, disable=None
      )
      forecasts = [
        forecast(work, way, speeds, self._memory, splits or None)
        for way in ways
      ]
      if not (args.schedule or args.as_registered or splits):
        forecasts = recommend.with_auto(forecasts, self._memory)
      plan = report.PlanReport(work, tuple(forecasts), self._memory, args.all)
      print(f'\n{plan.to_text()}\n{self._spent()}')
      if args.picture:
        memory_over_time.draw(args.picture, plan.shown, self._memory)
        print(f'Written: {args.picture}')

  def _workload(self, balance: str) -> tuple[Workload, Speeds]:
    args = self._args
    if balance:
      self._params.balance = balance
    work = registered.workload(args.model, self._params, args.batch_size)
    work = dataclasses.replace(work, min_examples=args.min_examples)
    return work, self._speeds(work.basis)

  def _speeds(self, basis: str) -> Speeds:
    args = self._args
    seconds = 1.0 if basis == 'measured' else None
    if args.device_speed is not None:
      if basis != 'flops':
        raise ValueError(
          f'--device_speed is in FLOP/s, but the costs are {basis!r}; use '
          '--balance=flops, which needs input_shapes.'
        )
      seconds = 1 / args.device_speed
    return Speeds(seconds, args.link_speed, args.link_latency)

  def _ways(
    self, work: Workload, cells: int, **chosen: Sequence[Any]
  ) -> list[Setting]:
    """The settings to look at, with K cells; flags win over what is chosen."""
    args = self._args
    devices, per_device = cells, 0
    if args.num_partitions and args.devices:
      devices = args.devices
      per_device, rest = divmod(cells, devices)
      if rest or not per_device:
        raise ValueError(
          f'--num_partitions {cells} is not a multiple of --devices={devices}.'
        )
    chosen = {**chosen, **self._chosen()}
    if args.as_registered:
      chosen = {
        'micro_batches': (work.num_micro_batches,),
        'schedules': (work.schedule,),
        'recompute': (work.recompute,),
      }
    for name in chosen.get('schedules', ()):
      schedules.check_name(name)
      if name != 'gpipe' and work.schedules == ('gpipe',):
        raise ValueError(
          f'--schedule {name!r}: {work.name} can only run gpipe, because its '
          'loss is outside the pipeline. Use gpipe, or set loss_tpl.'
        )
    return recommend.settings(
      work, devices, per_device, device_memory=self._memory, **chosen
    )

  def _chosen(self) -> dict[str, Sequence[Any]]:
    chosen = {
      'micro_batches': self._args.num_micro_batches,
      'schedules': self._args.schedule,
      'recompute': self._args.recompute,
    }
    return {name: values for name, values in chosen.items() if values}

  def _spent(self) -> str:
    seconds = time.monotonic() - self._started
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return (
      f'Planned in {seconds:.1f} s; the peak memory of this process is '
      f'{megabytes:.0f} MB.'
    )

  def _sweep(self) -> None:
    args = self._args
    work, speeds = self._workload(args.balance[0])
    most = args.devices or max(self._params.num_partitions, 8)
    powers = {2**i for i in range(most.bit_length())}
    forecasts = sweep.sweep(
      work,
      args.num_partitions or sorted({*powers, most}),
      speeds,
      self._memory,
      **self._chosen(),
    )
    if not forecasts:
      raise ValueError(
        f'--num_partitions: there are {len(work.layers)} layers.'
      )
    table, title = sweep.as_text(forecasts), sweep.title(work)
    print(f'\n{title}\n{table}')
    texts = {
      '.md': f'{title}\n\n{table}\n',
      '.json': sweep.as_json(forecasts, self._memory) + '\n',
    }
    for path in map(pathlib.Path, args.sweep):
      if path.suffix == '.png':
        sweep.draw(str(path), forecasts, self._memory)
      else:
        path.write_text(texts[path.suffix], encoding='utf-8')
    print(f'Written: {", ".join(args.sweep)}')

  def _largest(self) -> None:
    args, memory = self._args, self._memory
    if memory is None:
      raise ValueError('--largest needs --device_memory, such as 8GiB.')
    family = largest.Family(
      args.model, **self._overrides, num_partitions=0, splits=[]
    )
    cells = args.devices or self._params.num_partitions or 1

    def ways(work: Workload) -> list[Setting]:
      return self._ways(
        work,
        cells,
        # Other M would be other micro-batches: a model trains with its own.
        micro_batches=(work.num_micro_batches,),
        # The others gain time, and next to no memory; this is asked often.
        schedules=[n for n in schedules.PLAIN_NAMES if n in work.schedules],
      )

    speeds, kind = self._speeds('flops'), family.kind
    searched: list[Callable[[int], Workload]] = [family.workload]
    if kind.width:
      sizes = range(kind.widths[0], args.max_width + 1, kind.widths[0])
      searched = [functools.partial(family.workload, n) for n in args.lengths]
    else:
      first = max(cells - 2, 1)
      sizes = range(first, max(args.max_length, first) + 1)
    models = [
      found
      for model in searched
      if (found := largest.largest(model, sizes, ways, memory, speeds))
    ]
    limit = units.format_bytes(memory)
    if not models:
      print(f'No {kind.name} fits into {cells} devices of {limit}.')
      return
    print(
      f'\nLargest models like {args.model}, K = {cells}, {limit} a device:\n'
      f'{largest.as_text(models)}\n{self._spent()}'
    )
