# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains configurations, and shows how far the predictions are off.

  layers, each timed alone on a core
  the weights' update                 -- planner -->  predicted step, peaks
  transfers between processes
  K worker processes, a core each     -- training --> measured step, peaks

Peaks are those above what a tiny model with the same graph leaves. The status
is 1 if a prediction is off by more than --tolerance.

Layers are timed on as many cores at once as workers will be busy, for each case
anew and right before its steps. Memory and time are measured in different
processes: what shows the memory that is really alive slows steps down.

Cases 1 to 6 are both families, one and two workers, all policies; 7 to 12 are
schedules. From 13 on each is recompute='fit' at five limits between what
'always' and what 'never' need, and the other policies; all take turns on the
same workers. These last need as many cores as cells for times that mean much.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.training import cores
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.common import command, fresh

_EXAMPLES = """\
  tools/check_predictions.py --markdown checked.md --json checked.json
  tools/check_predictions.py --scale 4 --steps 1
  tools/check_predictions.py --cases 13,14,15,16
"""
# Seconds that one measurement may take.
_TIMEOUT = 900.0
# Of what 'never' needs beyond 'always'.
_SHARES = [i / 6 for i in range(1, 6)]


@dataclasses.dataclass(frozen=True)
class Checked:
  """A case; each worker's peak, and the step, predicted and measured.

  `limit` is what each device may hold, or None; `seconds` are of each step.
  """

  case: Case
  limit: int | None
  predicted_bytes: tuple[int, ...]
  measured_bytes: tuple[int, ...]
  predicted_seconds: float
  seconds: tuple[float, ...]

  @property
  def measured_seconds(self) -> float:
    return statistics.median(self.seconds)

  @property
  def memory_error(self) -> float:
    """Of the fullest worker: by which share the prediction is too high."""
    return max(self.predicted_bytes) / max(self.measured_bytes) - 1

  @property
  def time_error(self) -> float:
    """By which share the predicted step is too long."""
    return self.predicted_seconds / self.measured_seconds - 1


def default_cases(scale: int = 1) -> list[Case]:
  """Both families, one and two workers; policies, schedules, and 'fit'."""
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
    *(
      case('transformer', 2 * schedules.cells_per_device(name), 8, name, policy)
      for name in ('1f1b', 'zb_h1', 'v_half')
      for policy in ('never', 'always')
    ),
    *(
      case(model, *how, schedules.FIT)
      for model in ('amoebanet', 'transformer')
      for how in ((2, 8, 'gpipe'), (4, 8, '1f1b'))
    ),
  ]


def check(cases: Sequence[Case], timed_steps: int) -> list[Checked]:
  """Predicts and measures cases; ProcessError: one could not be trained."""
  found = []
  with fresh.AliveOnly() as alive:
    for case in cases:
      try:
        of_case = _check(case, timed_steps, alive)
      except fresh.ProcessError as error:
        raise fresh.ProcessError(f'{describe(case)}: {error}') from error
      found += of_case
      for one in of_case:
        command.say(
          f'{describe(one.case)}: memory {one.memory_error:+.0%}, time '
          f'{one.time_error:+.0%}.'
        )
  return found


def _check(
  case: Case, timed_steps: int, alive: fresh.AliveOnly
) -> list[Checked]:
  # The layers' times do not depend on the policy.
  work = workload(dataclasses.replace(case, recompute='always'))
  latency, bytes_a_second = call('link_speed.measure', case.num_devices)
  plans = _plans(case, work, Speeds(1.0, bytes_a_second, latency))
  cuts = [plan.partition for _, plan in plans]
  runs = [
    dataclasses.replace(
      case, recompute=cut.spec.recompute, kept=tuple(sorted(cut.spec.kept))
    )
    for cut in cuts
  ]
  splits = [cut.splits for cut in cuts]
  update, times = call('worker_run.take_turns', runs, splits, timed_steps)
  # On workers of its own: those keep some of what was there before.
  sized: list[WorkerRun] = [
    call('worker_run.run', *run, warm_up=True, by=alive.call)
    for run in zip(runs, splits, strict=True)
  ]
  return [
    Checked(
      case=run,
      limit=limit,
      predicted_bytes=tuple(device.total for device in plan.devices),
      measured_bytes=tuple(size.above_idle),
      predicted_seconds=plan.step_time + update,
      seconds=tuple(seconds),
    )
    for run, (limit, plan), seconds, size in zip(
      runs, plans, times, sized, strict=True
    )
  ]


# A limit, and what the planner says.
_Plan = tuple[int | None, Forecast]


def _plans(case: Case, work: Workload, speeds: Speeds) -> list[_Plan]:
  """The plan of a case; for 'fit' those of all policies first."""

  def plan(recompute: str, limit: int | None = None) -> _Plan:
    how = case.num_devices, case.num_micro_batches, case.schedule, recompute
    setting = Setting(*how, case.num_cells // case.num_devices)
    return limit, forecast(work, setting, speeds, limit)

  if case.recompute != schedules.FIT:
    return [plan(case.recompute)]
  plans = list(map(plan, schedules.RECOMPUTE_POLICIES))
  least, _, most = (one.fullest for _, one in plans)
  return plans + [
    plan(schedules.FIT, least + round(share * (most - least)))
    for share in _SHARES
  ]


def workload(case: Case) -> Workload:
  """A case's layers, timed on as many cores at once as it has workers."""
  num_cores = min(case.num_devices, cores.num_usable())
  with futures.ThreadPoolExecutor() as pool:
    timed = [
      pool.submit(call, 'case_cut.measured', case, core)
      for core in range(num_cores)
    ]
    cuts: list[Partition] = [one.result() for one in timed]
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


def call(
  function: str,
  *args: Any,
  by: Callable[..., Any] | None = None,
  **kwargs: Any,
) -> Any:
  """Calls a function of this package in a process of its own."""
  function = f'tools.benchmark.{function}'
  return (by or fresh.call)(function, *args, timeout=_TIMEOUT, **kwargs)


def describe(case: Case) -> str:
  """A case in a few words."""
  return (
    f'{case.title}, K = {case.num_cells}, M = {case.num_micro_batches}, '
    f'{case.schedule}, {_recompute(case)}'
  )


def _recompute(case: Case) -> str:
  return f'{len(case.kept)} kept' if case.kept else case.recompute


def as_text(found: Sequence[Checked]) -> str:
  """A table with a case a row, also Markdown; and what 'fit' gained."""
  header = ['model', 'K', 'M', 'schedule', 'recompute', 'limit, MiB']
  header += ['peaks predicted, MiB', 'measured', 'error of the fullest']
  header += ['step predicted, s', 'measured', 'error']
  table = text_table.table(header, [_row(one) for one in found])
  return '\n'.join([table, *_gains(found)])


def _row(one: Checked) -> list[str]:
  case = one.case
  return [
    *(case.title, str(case.num_cells), str(case.num_micro_batches)),
    *(case.schedule, _recompute(case)),
    text_table.megabytes(one.limit) if one.limit else '',
    ' '.join(map(text_table.megabytes, one.predicted_bytes)),
    ' '.join(map(text_table.megabytes, one.measured_bytes)),
    f'{one.memory_error:+.0%}',
    f'{one.predicted_seconds:.3f}',
    f'{one.measured_seconds:.3f}',
    f'{one.time_error:+.0%}',
  ]


def _gains(found: Sequence[Checked]) -> list[str]:
  """What each choice under a limit takes, beside the policies before it."""
  lines = []
  policies: dict[str, Checked] = {}
  for one in found:
    if one.limit is None:
      policies[_recompute(one.case)] = one
      continue
    seconds = one.measured_seconds
    best = min(
      other.measured_seconds
      for other in policies.values()
      if max(other.predicted_bytes) <= one.limit
    )
    always, _, never = (
      policies[name].measured_seconds for name in schedules.RECOMPUTE_POLICIES
    )
    lines.append(
      f'- {describe(one.case)}, {text_table.megabytes(one.limit)} MiB: '
      f'{seconds / best:.2f} of the best policy that fits; '
      f'{(always - seconds) / (always - never):.0%} of the time from always '
      'to never is won back'
    )
  return ['', *lines] if lines else []


def scale_flag(parser: command.Parser) -> None:
  """Adds --scale."""
  parser.add_argument(
    '--scale',
    type=int,
    choices=(1, 2, 4),
    default=1,
    help='Divides the sizes of the models, for a quick look: small models say '
    'little. Default: %(default)s.',
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/check_predictions.py', __doc__, _EXAMPLES)
  flag = parser.flag
  flag('steps', 10, 'Steps of which the median counts.', command.positive)
  scale_flag(parser)
  which = 'Which, as numbers from 1 with commas.'
  flag('cases', '1,2,3,4,5,6', which, command.numbers)
  flag('tolerance', 0.15, 'How far a prediction may be off.')
  parser.outputs()
  args = parser.parse_args(argv)
  parser.needs_linux()
  cases = parser.chosen('cases', args.cases, default_cases(args.scale))
  worst = 0.0

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
    nonlocal worst
    checked = check(cases, args.steps)
    figures = []
    for one in checked:
      errors = {'memory_error': one.memory_error, 'time_error': one.time_error}
      figures.append({**dataclasses.asdict(one), **errors})
      worst = max(worst, *map(abs, errors.values()))
    text = (
      f'{as_text(checked)}\n\nThe prediction furthest off is off by '
      f'{worst:.0%}; {args.tolerance:.0%} is allowed.'
    )
    yield text, {'cases': figures}

  status = command.report(parser, args, found())
  return status or int(worst > args.tolerance)
