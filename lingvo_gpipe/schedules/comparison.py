# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why one schedule is shorter than another, in sentences.

A step takes as long as the tasks and transfers on its critical path. So what
the paths differ in is, exactly, by how much the schedules differ.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence

from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.simulate import Time, Timeline
from lingvo_gpipe.schedules.task import TaskKind

_KINDS = {
  'F': 'forward tasks',
  'B': 'input gradients',
  'W': 'weight gradients',
  'T': 'transfers',
}


@dataclasses.dataclass(frozen=True)
class Run:
  """A schedule that was simulated, and what to call it."""

  name: str
  problem: OrderProblem
  timeline: Timeline


def why(a: Run, b: Run) -> str:
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
    lines += ['', f'Critical path of {run.name}:', *_path_lines(run)]
  for run in (a, b):
    lines += ['', f'Where devices wait in {run.name}:']
    for device in range(run.problem.num_devices):
      found = waits(run, device)
      reasons = ', '.join(f'{time:g} {why}' for why, time in found.items())
      total = f'{sum(found.values()):g}' + (': ' if found else '')
      lines.append(f'  device {device} waits {total}{reasons}.')
  return '\n'.join(lines)


def _path_difference(a: Run, b: Run) -> list[str]:
  of_a, of_b = on_path(a), on_path(b)
  lines = ['Time on the critical path:']
  for kind, what in _KINDS.items():
    less = of_b[kind] - of_a[kind]
    if of_a[kind] or of_b[kind]:
      line = f'  {what}: {of_a[kind]:g} in {a.name}, {of_b[kind]:g} in {b.name}'
      if less:
        line += f', {abs(less):g} {"less" if less > 0 else "more"}'
      lines.append(f'{line}.')
  for run, of in ((a, of_a), (b, of_b)):
    beside = sum(run.timeline.device_busy) - sum(of[kind] for kind in 'FBW')
    lines.append(f'  Other tasks of {run.name}, which run beside: {beside:g}.')
  return lines


def on_path(run: Run) -> dict[str, Time]:
  """What F, B, W and transfers ('T') take on the critical path.

  A whole backward task counts as a B and a W.
  """
  problem, timeline = run.problem, run.timeline
  found: dict[str, Time] = dict.fromkeys(_KINDS, 0)
  for task in timeline.critical_path:
    found[task.kind.value] += problem.duration(task)
    if task.kind == TaskKind.BACKWARD and not timeline.schedule.is_split:
      found['W'] += problem.weight_gradient[task.cell]
  found['T'] = timeline.step_time - sum(found.values())
  # Rounding could leave a little.
  if found['T'] < 1e-9 * timeline.step_time:
    found['T'] = 0
  return found


def _path_lines(run: Run) -> list[str]:
  lines = []
  for device, tasks in itertools.groupby(
    run.timeline.critical_path,
    key=lambda task: run.problem.cell_devices[task.cell],
  ):
    texts = _without_middle(list(map(str, tasks)), 8)
    lines.append(f'device {device}: {" ".join(texts)}')
  return [f'  {line}' for line in _without_middle(lines, 12)]


def _without_middle(texts: Sequence[str], most: int) -> Sequence[str]:
  if len(texts) <= most:
    return texts
  left_out = f'... ({len(texts) - most} more)'
  return [*texts[: most // 2], left_out, *texts[-(most // 2) :]]


def waits(run: Run, device: int) -> dict[str, Time]:
  """How long a device waits, by reason, in the order of its waits."""
  timeline, problem = run.timeline, run.problem
  found: dict[str, Time] = collections.defaultdict(int)
  before: Time = 0
  for task in timeline.schedule.device_tasks[device]:
    gap = timeline.start[task] - before
    if gap > 0:
      arrivals = {
        needed: timeline.end[needed] + problem.transfer(needed.cell, task.cell)
        for needed in timeline.schedule.dependencies(task)
      }
      needed = max(arrivals, key=arrivals.__getitem__)
      # What of the gap the result was on its way.
      travel = min(gap, problem.transfer(needed.cell, task.cell))
      source = problem.cell_devices[needed.cell]
      what = 'activations' if task.kind == TaskKind.FORWARD else 'gradients'
      found[f'for {what} from device {source}'] += gap - travel
      found['for transfers'] += travel
    before = timeline.end[task]
  found['after its last task'] += timeline.step_time - before
  return {reason: time for reason, time in found.items() if time > 0}
