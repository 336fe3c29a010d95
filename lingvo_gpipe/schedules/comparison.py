# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why one schedule is shorter than another, in sentences.

A step takes as long as the tasks and transfers on its critical path. So what
the paths differ in is, exactly, by how much the schedules differ.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.simulate import Time, Timeline
from lingvo_gpipe.schedules.task import Task, TaskKind

_KINDS = {
  'F': 'forward tasks',
  'B': 'input gradients',
  'W': 'weight gradients',
  'T': 'transfers',
}
_MOST_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Run:
  """A schedule that was simulated.

  Attributes:
    name: What to call it.
    problem: The pipeline: what tasks and transfers take.
    timeline: When the tasks run.
  """

  name: str
  problem: OrderProblem
  timeline: Timeline


def why(a: Run, b: Run) -> str:
  """Says why the shorter of two schedules is shorter.

  Times are counted as one; the problems may have other cells and devices.
  """
  if b.timeline.step_time < a.timeline.step_time:
    a, b = b, a
  short, long = a.timeline.step_time, b.timeline.step_time
  lines = [f'{a.name} and {b.name} take equally long: {short:g}.']
  if short < long:
    lines = [
      f'{a.name} takes {short:g} and {b.name} takes {long:g}: {a.name} is '
      f'shorter by {long - short:g} ({1 - short / long:.1%}).'
    ]
  lines += ['', *_path_difference(a, b)]
  for run in (a, b):
    lines += ['', f'Critical path of {run.name}:', path_text(run)]
  for run in (a, b):
    lines += ['', f'Where devices wait in {run.name}:', *waits(run)]
  return '\n'.join(lines)


def _path_difference(a: Run, b: Run) -> list[str]:
  """What the critical paths take of each kind."""
  of_a, of_b = on_path(a), on_path(b)
  lines = ['Time on the critical path:']
  for kind, what in _KINDS.items():
    less = of_b[kind] - of_a[kind]
    if of_a[kind] or of_b[kind]:
      text = f'{abs(less):g} less' if less > 0 else f'{abs(less):g} more'
      lines.append(
        f'  {what}: {of_a[kind]:g} in {a.name}, {of_b[kind]:g} in {b.name}'
        + (f', {text}' if less else '')
        + '.'
      )
  for run, of in ((a, of_a), (b, of_b)):
    beside = sum(run.timeline.device_busy) - sum(of[kind] for kind in 'FBW')
    lines.append(f'  Other tasks of {run.name}, which run beside: {beside:g}.')
  return lines


def on_path(run: Run) -> dict[str, Time]:
  """What F, B, W and transfers ('T') take on the critical path.

  A whole backward task counts as a B and a W.
  """
  found: dict[str, Time] = dict.fromkeys(_KINDS, 0)
  for task in run.timeline.critical_path:
    for kind, time in _parts(run, task):
      found[kind] += time
  found['T'] = run.timeline.step_time - sum(found.values())
  # Rounding could leave a little.
  if found['T'] < 1e-9 * run.timeline.step_time:
    found['T'] = 0
  return found


def _parts(run: Run, task: Task) -> Iterable[tuple[str, Time]]:
  problem = run.problem
  if task.kind == TaskKind.BACKWARD:
    yield 'B', problem.backward[task.cell]
    if not run.timeline.schedule.is_split:
      yield 'W', problem.weight_gradient[task.cell]
  else:
    yield task.kind.value, problem.duration(task)


def path_text(run: Run) -> str:
  """The critical path, a line for each run of tasks on a device."""
  devices = run.problem.cell_devices
  lines = [
    f'  device {device}: {_short(list(map(str, tasks)), 8, " ")}'
    for device, tasks in itertools.groupby(
      run.timeline.critical_path, key=lambda task: devices[task.cell]
    )
  ]
  return _short(lines, _MOST_SHOWN, '\n', '  ')


def _short(
  texts: Sequence[str], most: int, between: str, before: str = ''
) -> str:
  """The texts; the middle of many is left out."""
  if len(texts) > most:
    left_out = f'{before}... ({len(texts) - most} more)'
    texts = [*texts[: most // 2], left_out, *texts[-(most // 2) :]]
  return between.join(texts)


def waits(run: Run) -> list[str]:
  """For each device what it waits for, and how long."""
  lines = []
  for device in range(run.problem.num_devices):
    of = _waits_of(run, device)
    reasons = ', '.join(f'{time:g} {reason}' for reason, time in of.items())
    total = f'{sum(of.values()):g}' + (': ' if of else '')
    lines.append(f'  device {device} waits {total}{reasons}.')
  return lines


def _waits_of(run: Run, device: int) -> dict[str, Time]:
  """How long a device waits, by reason, in the order of its waits."""
  timeline, problem = run.timeline, run.problem
  found: dict[str, Time] = {}

  def add(reason: str, time: Time) -> None:
    if time > 0:
      found[reason] = found.get(reason, 0) + time

  before: Time = 0
  for task in timeline.schedule.device_tasks[device]:
    gap = timeline.start[task] - before
    if gap > 0:
      needed = max(
        timeline.schedule.dependencies(task),
        key=lambda needed: timeline.end[needed] + _travel(run, needed, task),
      )
      # What of the gap the result was on its way.
      travel = min(gap, _travel(run, needed, task))
      source = problem.cell_devices[needed.cell]
      what = 'activations' if task.kind == TaskKind.FORWARD else 'gradients'
      add(f'for {what} from device {source}', gap - travel)
      add('for transfers', travel)
    before = timeline.end[task]
  add('after its last task', timeline.step_time - before)
  return found


def _travel(run: Run, needed: Task, task: Task) -> Time:
  if needed.cell == task.cell:
    return 0
  return run.problem.transfers[min(needed.cell, task.cell)]
