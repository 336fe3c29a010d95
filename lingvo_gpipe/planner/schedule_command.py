# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws schedules, times them, and says why one is shorter than another.

No model is needed: the times of tasks are given. With two schedules it compares
their critical paths.
"""

import argparse
import contextlib
import importlib
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import comparison, schedule_file

_PROGRAM = 'lingvo_gpipe_plan schedule'
_EXAMPLES = """
examples:
  lingvo_gpipe_plan schedule zb_h1 1f1b --devices=4 --num_micro_batches=8
  lingvo_gpipe_plan schedule auto --devices=4 --num_micro_batches=8 \\
    --forward=1,1,2,1 --transfer=0.1 --json=mine.json
  lingvo_gpipe_plan schedule file:mine.json 1f1b
"""


def checked(
  parse: Callable[[str], Any],
  what: str,
  is_right: Callable[[Any], bool] = lambda _: True,
) -> Callable[[str], Any]:
  """A type for argparse that says what it wants."""

  def parse_flag(text: str) -> Any:
    with contextlib.suppress(ValueError):
      value = parse(text)
      if is_right(value):
        return value
    raise argparse.ArgumentTypeError(f'{text!r} is not a {what}')

  return parse_flag


def _list(text: str) -> tuple[float, ...]:
  # Whole numbers stay exact.
  return tuple(
    int(part) if part.strip().isdigit() else float(part)
    for part in text.split(',')
  )


_times = checked(
  _list,
  'number of 0 or more, nor several with commas',
  lambda times: all(0 <= time < float('inf') for time in times),
)


def _parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(
    _PROGRAM,
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = made.add_argument
  add('schedule', help="A schedule's name, or file:PATH.")
  add('other', nargs='?', help='One to compare it with.')
  add('--devices', type=int, help='D. Default: as the file has it, or 4.')
  add('--num_micro_batches', type=int, help='M. Default: as the file, or 8.')
  add('--cells_per_device', type=int, help='Default: as the schedule wants.')
  for name, default, what in (
    ('forward', 1, 'F, the forward task'),
    ('backward', 1, 'B, the input gradients'),
    ('weight_gradient', 1, 'W, the weight gradients'),
    ('transfer', 0, 'sending from a cell to the next'),
  ):
    add(
      f'--{name}',
      type=_times,
      default=(default,),
      help=f'Time of {what} of a micro-batch: one number for all cells of a '
      'device together, or one for each cell, or transfer, with commas. '
      f'Default: {default}.',
    )
  add('--json', help='A file to write the first schedule to.')
  add('--module', help='A module to import first, which registers schedules.')
  return made


def _run(name: str, args: argparse.Namespace) -> comparison.Run:
  devices, cells, num_micro_batches = 4, 0, 8
  for given in filter(None, (args.other, args.schedule, name)):
    if given.startswith(schedule_file.PREFIX):
      read = schedules.read(given.removeprefix(schedule_file.PREFIX))
      devices, num_micro_batches = read.num_devices, read.num_micro_batches
      cells = read.num_cells if given == name else 0
  devices = args.devices or devices
  per_device = args.cells_per_device or schedules.cells_per_device(name)
  places = schedules.place(name, cells or devices * per_device, devices)
  if len(set(places)) < devices:
    raise ValueError(
      f'{name} has {len(places)} cells, which are on {len(set(places))} '
      f'devices, but --devices is {devices}: change --cells_per_device, or it.'
    )
  problem = _problem(args, places, args.num_micro_batches or num_micro_batches)
  schedule = schedules.make_schedule(
    name, places, problem.num_micro_batches, costs=problem
  )
  return comparison.Run(name, problem, problem.simulate(schedule))


def _problem(
  args: argparse.Namespace, places: Sequence[int], num_micro_batches: int
) -> schedules.OrderProblem:
  def of_each(flag: str, count: int, share: int = 1) -> tuple[float, ...]:
    times: tuple[float, ...] = getattr(args, flag)
    if len(times) == 1:
      return (times[0] / share if share > 1 else times[0],) * count
    if len(times) != count:
      raise ValueError(
        f'--{flag} has {len(times)} numbers; give one, or {count}.'
      )
    return times

  num_cells = len(places)
  share = -(-num_cells // (max(places) + 1))
  return schedules.OrderProblem(
    tuple(places),
    num_micro_batches,
    forward=of_each('forward', num_cells, share),
    backward=of_each('backward', num_cells, share),
    weight_gradient=of_each('weight_gradient', num_cells, share),
    transfers=of_each('transfer', num_cells - 1),
    limits=schedules.limits_of_1f1b(places, num_micro_batches),
  )


def _describe(run: comparison.Run) -> str:
  timeline = run.timeline
  peaks = timeline.device_peak_stash
  return (
    f'{schedules.grid(timeline.schedule, timeline)}\n'
    f'Makespan {timeline.step_time:g}, bubble {float(timeline.bubble):.1%}. '
    f'Peak memory of each device, in activations of a cell: '
    f'{" ".join(map(str, peaks))}.\n'
  )


def main(argv: Sequence[str] | None = None) -> int:
  args = _parser().parse_args(argv)
  try:
    if args.module:
      importlib.import_module(args.module)
    names = filter(None, (args.schedule, args.other))
    runs = [_run(name, args) for name in names]
    for run in runs:
      print(_describe(run))
    if len(runs) == 2:
      print(comparison.why(*runs))
    if args.json:
      text = schedules.to_json(runs[0].timeline.schedule)
      pathlib.Path(args.json).write_text(text, encoding='utf-8')
      print(f'Written: {args.json}')
  except (ImportError, OSError, ValueError) as error:
    print(f'{_PROGRAM}: {error}', file=sys.stderr)
    return 2
  return 0
