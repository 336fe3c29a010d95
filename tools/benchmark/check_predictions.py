# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains six configurations, and shows how far the predictions are off.

  layers, each timed alone on a core
  the weights' update                 -- planner -->  predicted step, peaks
  transfers between processes
  K worker processes, a core each     -- training --> measured step, peaks

Peaks are those above what a tiny model with the same graph leaves. The status
is 1 if a prediction is off by more than --tolerance.

Layers are timed on as many cores at once as workers will be busy, for each case
anew and right before its steps: machines are not always equally fast. Memory
and time are measured in different processes: what shows the memory that is
really alive slows steps down.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.planner.forecast import Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.training import cores
from tools.benchmark import command, fresh
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun

_EXAMPLES = """\
  tools/check_predictions.py --markdown checked.md --json checked.json
  tools/check_predictions.py --scale 4 --steps 1
"""
# Seconds that one measurement may take.
_TIMEOUT = 300.0


@dataclasses.dataclass(frozen=True)
class Checked:
  """A case; each worker's peak, and the median step, predicted and measured."""

  case: Case
  predicted_bytes: tuple[int, ...]
  measured_bytes: tuple[int, ...]
  predicted_seconds: float
  measured_seconds: float

  @property
  def memory_error(self) -> float:
    """Of the fullest worker: by which share the prediction is too high."""
    return max(self.predicted_bytes) / max(self.measured_bytes) - 1

  @property
  def time_error(self) -> float:
    """By which share the predicted step is too long."""
    return self.predicted_seconds / self.measured_seconds - 1


def default_cases(scale: int = 1) -> list[Case]:
  """Six cases: both families, one and two workers, all policies."""
  image: dict[str, Any] = {'num_ids': 1000, 'optimizer': 'rmsprop'}
  text = {'num_ids': 8192, 'optimizer': 'adam', 'dropout': 0.1}

  def case(model: str, k: int, m: int, schedule: str, recompute: str) -> Case:
    is_image = model == 'amoebanet'
    num_layers, dim = (3, 96) if is_image else (6, 384)
    return Case(
      *('', model, num_layers, dim // scale, 4 * m, k, m, 128 // scale),
      schedule=schedule,
      recompute=recompute,
      **(image if is_image else text),
    )

  return [
    case('amoebanet', 2, 4, '1f1b', 'never'),
    case('amoebanet', 2, 6, 'gpipe', 'always'),
    case('transformer', 1, 1, 'gpipe', 'never'),
    case('transformer', 1, 4, '1f1b', 'always'),
    case('transformer', 2, 6, '1f1b', 'except_last'),
    case('transformer', 2, 8, 'gpipe', 'never'),
  ]


def check(cases: Sequence[Case], timed_steps: int) -> list[Checked]:
  """Predicts and measures cases; ProcessError: one could not be trained."""
  found = []
  with fresh.AliveOnly() as alive:
    for case in cases:
      try:
        found.append(_check(case, timed_steps, alive))
      except fresh.ProcessError as error:
        raise fresh.ProcessError(f'{describe(case)}: {error}') from error
      command.say(
        f'{describe(case)}: memory {found[-1].memory_error:+.0%}, time '
        f'{found[-1].time_error:+.0%}.'
      )
  return found


def _check(case: Case, timed_steps: int, alive: futures.Executor) -> Checked:
  setting = Setting(
    case.num_cells, case.num_micro_batches, case.schedule, case.recompute
  )
  work = _workload(case)
  latency, bytes_a_second = _call('link_speed.measure', case.num_cells)
  speeds = Speeds(1.0, bytes_a_second, latency)
  splits = forecast(work, setting, speeds).partition.splits
  update = _call('worker_run.update_seconds', case, splits, timed_steps)
  speeds = dataclasses.replace(speeds, step_overhead=update)
  predicted = forecast(work, setting, speeds, splits=splits)
  run = 'worker_run.run', case, splits
  timed: WorkerRun = _call(*run, timed_steps=timed_steps, pinned=True)
  sized: WorkerRun = alive.submit(
    _call, *run, pinned=True, warm_up=True
  ).result()
  return Checked(
    case=case,
    predicted_bytes=tuple(device.total for device in predicted.devices),
    measured_bytes=tuple(sized.above_idle),
    predicted_seconds=predicted.step_time,
    measured_seconds=timed.step_seconds,
  )


def _workload(case: Case) -> Workload:
  """A case's layers, timed on as many cores at once as it has workers."""
  num_cores = min(case.num_cells, cores.num_usable())
  with futures.ThreadPoolExecutor() as pool:
    cuts: list[Partition] = list(
      pool.map(
        lambda core: _call('case_cut.measured', case, core), range(num_cores)
      )
    )
  layers = [
    dataclasses.replace(
      same[0],
      forward=statistics.mean(float(layer.forward) for layer in same),
      backward=statistics.mean(float(layer.backward) for layer in same),
    )
    for same in zip(*(cut.layers for cut in cuts), strict=True)
  ]
  seconds = sum(layer.forward + layer.backward for layer in layers)
  command.say(
    f'{case.title}: {len(layers)} layers timed, {seconds:.3f} s a micro-batch.'
  )
  return Workload(
    name=case.title,
    layers=tuple(layers),
    input_bytes=cuts[0].spec.input_bytes,
    basis='measured',
    num_micro_batches=case.num_micro_batches,
    micro_batch_size=case.micro_batch_size,
  )


def _call(function: str, *args: Any, **kwargs: Any) -> Any:
  """Calls a function of this package in a process of its own."""
  return fresh.call(
    f'tools.benchmark.{function}', *args, timeout=_TIMEOUT, **kwargs
  )


def describe(case: Case) -> str:
  """A case in a few words."""
  return (
    f'{case.title}, K = {case.num_cells}, M = {case.num_micro_batches}, '
    f'{case.schedule}, {case.recompute}'
  )


def as_text(found: Sequence[Checked]) -> str:
  """A table with a case a row; also Markdown."""
  header = ['model', 'K', 'M', 'schedule', 'recompute']
  header += ['peaks predicted, MiB', 'measured', 'error of the fullest']
  header += ['step predicted, s', 'measured', 'error']
  return text_table.table(header, [_row(one) for one in found])


def _row(one: Checked) -> list[str]:
  case = one.case
  return [
    *(case.title, str(case.num_cells), str(case.num_micro_batches)),
    *(case.schedule, case.recompute),
    ' '.join(map(text_table.megabytes, one.predicted_bytes)),
    ' '.join(map(text_table.megabytes, one.measured_bytes)),
    text_table.signed_percent(one.memory_error),
    f'{one.predicted_seconds:.3f}',
    f'{one.measured_seconds:.3f}',
    text_table.signed_percent(one.time_error),
  ]


def _parser() -> command.Parser:
  parser = command.Parser('tools/check_predictions.py', __doc__, _EXAMPLES)
  parser.flag(
    'steps', 10, 'Steps of which the median counts.', command.positive
  )
  parser.add_argument(
    '--scale',
    type=int,
    choices=(1, 2, 4),
    default=1,
    help='Divides the sizes of the models, for a quick look: small models say '
    'little. Default: %(default)s.',
  )
  parser.flag(
    'cases',
    '1,2,3,4,5,6',
    'Which of the six, as numbers from 1 with commas.',
    command.numbers,
  )
  parser.flag('tolerance', 0.15, 'How far a prediction may be off.')
  parser.outputs()
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  parser.needs_linux()
  cases = parser.chosen('cases', args.cases, default_cases(args.scale))
  worst = [0.0]

  def found() -> tuple[str, dict[str, Any]]:
    checked = check(cases, args.steps)
    errors = [abs(e) for x in checked for e in (x.memory_error, x.time_error)]
    worst[0] = max(errors)
    figures = [
      {
        **dataclasses.asdict(one),
        'memory_error': one.memory_error,
        'time_error': one.time_error,
      }
      for one in checked
    ]
    text = (
      f'{as_text(checked)}\n\nThe prediction furthest off is off by '
      f'{worst[0]:.0%}; {args.tolerance:.0%} is allowed.'
    )
    return text, {'cases': figures}

  status = command.report(parser, args, found)
  return status or int(worst[0] > args.tolerance)
