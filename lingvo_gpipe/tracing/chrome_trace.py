# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trace for Perfetto (ui.perfetto.dev) and for chrome://tracing.

```
  process "measured"     a row a device, a slice a task; a curve a process
  process "simulated"    the same, as simulated
  process "other ops"    a row a device: what ran outside of tasks
```

Source of the format: "Trace Event Format", Google, 2016: complete events (X),
metadata (M), counters (C) and flows (s, f). Perfetto colours a slice by its
name without the digits in it, so a kind is a colour there too.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from lingvo_gpipe.schedules import Task, Timeline
from lingvo_gpipe.tracing import picture
from lingvo_gpipe.tracing.measured_step import MeasuredStep

_MEASURED, _SIMULATED, _OTHERS = 1, 2, 3
_PROCESSES = {
  _MEASURED: 'measured',
  _SIMULATED: 'simulated with the measured durations',
  _OTHERS: 'other ops of the devices',
}
# Shorter ops than this, in seconds, would only make the file large.
_LEAST_OP = 20e-6
_GAP = 0.1  # Between two steps, as a share of a step.

Event: TypeAlias = dict[str, Any]


def chrome_trace(steps: Mapping[int, MeasuredStep]) -> Event:
  """Traced steps one after the other, as the object to write as JSON."""
  events = list(_metadata(next(iter(steps.values()))))
  offset = 0.0
  for number, step in steps.items():
    offset -= min([0.0, *(op.start for op in step.others)])
    for event in _events(step, number):
      event['ts'] = _microseconds(offset + event['ts'])
      events.append(event)
    length = max([step.length, *(op.end for op in step.others)])
    offset += (1 + _GAP) * length
  return {'traceEvents': events, 'displayTimeUnit': 'ms'}


def _metadata(step: MeasuredStep) -> Iterator[Event]:
  for pid, process in _PROCESSES.items():
    rows = [
      ('process_name', 0, {'name': process}),
      ('process_sort_index', 0, {'sort_index': pid}),
    ]
    for device, full_name in enumerate(step.devices):
      if full_name:
        cells = ', '.join(map(str, step.cells_of(device)))
        name = f'device {device} (cell {cells}) {full_name}'
        rows.append(('thread_name', device, {'name': name}))
    for what, tid, args in rows:
      yield {'ph': 'M', 'name': what, 'pid': pid, 'tid': tid, 'args': args}


def _events(step: MeasuredStep, number: int) -> Iterator[Event]:
  """The events of a step; 'ts' is in seconds after its first task starts."""
  path = {on_path.task for on_path in step.critical_path}
  yield from _tasks(_MEASURED, step, step, number, path)
  simulated = step.simulated
  path = set(simulated.critical_path)
  yield from _tasks(_SIMULATED, step, simulated, number, path)
  for op in step.others:
    if op.end - op.start >= _LEAST_OP:
      device = step.devices.index(op.device)
      duration = op.end - op.start
      yield _slice(op.name, _OTHERS, device, op.start, duration, step=number)
  for process, samples in step.memory.items():
    for time, num_bytes in samples:
      yield {
        'ph': 'C',
        'name': f'resident memory of {process}',
        'pid': _MEASURED,
        'ts': time,
        'args': {'MiB': round(num_bytes / 2**20, 3)},
      }
  yield from _arrows(step, number)


def _tasks(
  pid: int,
  step: MeasuredStep,
  shown: MeasuredStep | Timeline,
  number: int,
  critical: Collection[Task],
) -> Iterator[Event]:
  for task in sorted(shown.start, key=lambda task: shown.start[task]):
    start = float(shown.start[task])
    kind = picture.KINDS[task.kind][0]
    parts = {kind: float(shown.end[task]) - start}
    if task in step.recompute:
      parts[picture.RECOMPUTE[0]] = step.recompute[task]
    for name, duration in parts.items():
      if duration > 0:
        yield _slice(
          f'{name} {task.micro_batch}',
          pid,
          step.device_of(task),
          start,
          duration,
          task=str(task),
          cell=task.cell,
          micro_batch=task.micro_batch,
          step=number,
          on_critical_path=task in critical,
        )


def _slice(
  name: str, pid: int, tid: int, start: float, duration: float, **args: Any
) -> Event:
  return {
    'ph': 'X',
    'name': name,
    'pid': pid,
    'tid': tid,
    'ts': start,
    'dur': _microseconds(duration),
    'args': args,
  }


def _microseconds(seconds: float) -> float:
  return round(seconds * 1e6, 3)


def _arrows(step: MeasuredStep, number: int) -> Iterator[Event]:
  """From each task to those of other devices that use its result."""
  ids = itertools.count(number << 20)
  for task in step.start:
    for needed in step.schedule.dependencies(task):
      source, target = step.device_of(needed), step.device_of(task)
      if source != target:
        common = {'cat': 'result', 'name': 'result', 'pid': _MEASURED}
        common['id'] = next(ids)
        # A flow binds to the slice that its time lies in.
        middle = (step.start[needed] + step.end[needed]) / 2
        used = step.start[task]
        yield {**common, 'ph': 's', 'tid': source, 'ts': middle}
        yield {**common, 'ph': 'f', 'bp': 'e', 'tid': target, 'ts': used}
