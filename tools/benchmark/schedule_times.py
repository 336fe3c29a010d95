# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps of a Transformer under each schedule, and their forecasts.

It runs on two worker processes, each kept to a core, without recomputation;
with two cells on each where the schedule is made for that. The schedules take
turns, a step each. The planner forecasts the steps from layers that are timed
alone right before, the update of the weights and the speed of transfers.
"""

import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Setting
from tools.benchmark import check_predictions
from tools.benchmark.cases import Case
from tools.common import command

_EXAMPLES = """\
  tools/schedule_times.py --micro_batches 4 --steps 20
  tools/schedule_times.py --scale 4 --steps 1
"""
# All others are compared with the first.
_NAMES = ('1f1b', *(n for n in schedules.SCHEDULE_NAMES if n != '1f1b'))
_NUM_DEVICES = 2


def _case(num_micro_batches: int, scale: int) -> Case:
  return Case(
    *('schedules', 'transformer', 6, 256 // scale, 64, _NUM_DEVICES),
    *(num_micro_batches, 64 // scale, '1f1b', 'never'),
    num_ids=8192 // scale,
  )


def _run(case: Case, plan: Forecast, directory: str) -> Case:
  """The case as it was planned; an order that was sought is a file's."""
  setting = plan.setting
  name = setting.schedule
  if name == 'auto':
    path = pathlib.Path(directory, f'{setting.num_micro_batches}.json')
    text = schedules.to_json(plan.simulate().schedule)
    path.write_text(text, encoding='utf-8')
    name = f'file:{path}'
  return dataclasses.replace(case, schedule=name, num_cells=setting.num_cells)


def _measure(
  case: Case, steps: int, directory: str
) -> list[tuple[Forecast, float, list[float]]]:
  """For each schedule its forecast, with the update, and steps' seconds."""
  work = check_predictions.workload(case)
  call = check_predictions.call
  latency, bandwidth = call('link_speed.measure', _NUM_DEVICES)
  speeds = Speeds(1.0, bandwidth, latency)
  how = _NUM_DEVICES, case.num_micro_batches
  plans = [
    forecast(
      work,
      Setting(*how, name, 'never', schedules.cells_per_device(name)),
      speeds,
    )
    for name in _NAMES
  ]
  splits = [plan.partition.splits for plan in plans]
  runs = [_run(case, plan, directory) for plan in plans]
  update, seconds = call('worker_run.take_turns', runs, splits, steps)
  return [
    (plan, plan.step_time + update, of_plan)
    for plan, of_plan in zip(plans, seconds, strict=True)
  ]


def _rows(
  found: Sequence[tuple[Forecast, float, list[float]]],
) -> list[dict[str, Any]]:
  """The figures of one M; ratios are medians of rounds."""
  _, first_predicted, first = found[0]
  rows = []
  for plan, predicted, seconds in found:
    ratios = [a / b for a, b in zip(seconds, first, strict=True)]
    step = statistics.median(seconds)
    rows.append(
      {
        'M': plan.setting.num_micro_batches,
        'schedule': plan.setting.schedule,
        'K': plan.setting.num_cells,
        'step_seconds': step,
        'over_1f1b': statistics.median(ratios),
        'forecast_seconds': predicted,
        'forecast_over_1f1b': predicted / first_predicted,
        'error': predicted / step - 1,
      }
    )
  return rows


def as_text(rows: Sequence[dict[str, Any]]) -> str:
  """A table for people, also Markdown."""
  header = ['M', 'schedule', 'K', 'step, s', 'over 1f1b']
  header += ['forecast, s', 'over 1f1b', 'error']
  cells = []
  for row in rows:
    m, schedule, k, *times, error = row.values()
    texts = [f'{value:.3f}' for value in times]
    signed = f'{error:+.0%}'
    cells.append([str(m), schedule, str(k), *texts, signed])
  return text_table.table(header, cells)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/schedule_times.py', __doc__, _EXAMPLES)
  parser.flag('steps', 12, 'Steps of each schedule.', command.positive)
  parser.flag('micro_batches', '4,8', 'M, with commas.', command.numbers)
  check_predictions.scale_flag(parser)
  parser.outputs()
  args = parser.parse_args(argv)
  parser.needs_linux()
  for m in args.micro_batches:
    try:
      _case(m, args.scale).check_micro_batches(m)
    except ValueError as error:
      parser.error(f'--micro_batches: {error}')

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as directory:
      rows = [
        row
        for m in args.micro_batches
        for row in _rows(_measure(_case(m, args.scale), args.steps, directory))
      ]
    yield as_text(rows), {'schedules': rows}

  return command.report(parser, args, found())
