# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trace for Perfetto (ui.perfetto.dev) and for chrome://tracing.

```
  process "measured"     a row a device, a slice a task; a curve a process
  process "simulated"    the same, as simulated
```

Source of the format: "Trace Event Format", Google, 2016: complete events (X),
metadata (M), counters (C) and flows (s, f). Perfetto colours a slice by its
name without the digits in it, so a kind is a colour there too.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lingvo_gpipe.schedules import Task, Timeline
from lingvo_gpipe.tracing import picture
from lingvo_gpipe.tracing.measured_step import MeasuredStep

_MEASURED, _SIMULATED = 1, 2
_PROCESSES = {
  _MEASURED: 'measured',
  _SIMULATED: 'simulated with the measured durations',
}
_GAP = 0.1  # Between two steps, as a share of a step.

Event: TypeAlias = dict[str, Any]


def chrome_trace(steps: Mapping[int, MeasuredStep]) -> Event:
  """Traced steps one after the other, as the object to write as JSON."""
  events = list(_metadata(next(iter(steps.values()))))
  asked = 0.0
  for number, step in steps.items():
    for event in _events(step, number):
      event['ts'] = _microseconds(asked + step.before + event['ts'])
      events.append(event)
    asked += (1 + _GAP) * step.seconds
  return {'traceEvents': events, 'displayTimeUnit': 'ms'}


def _metadata(step: MeasuredStep) -> Iterator[Event]:
  for pid, process in _PROCESSES.items():
    rows = [('process_name', 0, process)]
    for device, full_name in enumerate(step.devices):
      if full_name:
        cells = ', '.join(map(str, step.cells_of(device)))
        name = f'device {device} (cell {cells}) {full_name}'
        rows.append(('thread_name', device, name))
    for what, tid, name in rows:
      args = {'name': name}
      yield {'ph': 'M', 'name': what, 'pid': pid, 'tid': tid, 'args': args}


def _events(step: MeasuredStep, number: int) -> Iterator[Event]:
  """The events of a step; 'ts' is in seconds after its first task starts."""
  path = [on_path.task for on_path in step.critical_path]
  yield from _tasks(_MEASURED, step, number, step, path)
  simulated = step.simulated
  yield from _tasks(
    _SIMULATED, step, number, simulated, simulated.critical_path
  )
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
  number: int,
  shown: MeasuredStep | Timeline,
  critical: Sequence[Task],
) -> Iterator[Event]:
  for task in sorted(shown.start, key=lambda task: shown.start[task]):
    start = float(shown.start[task])
    kind = picture.KINDS[task.kind][0]
    parts = {kind: float(shown.end[task]) - start}
    if task in step.recompute:
      parts[picture.RECOMPUTE[0]] = step.recompute[task]
    for name, duration in parts.items():
      if duration > 0:
        yield {
          'ph': 'X',
          'name': f'{name} {task.micro_batch}',
          'pid': pid,
          'tid': step.device_of(task),
          'ts': start,
          'dur': _microseconds(duration),
          'args': {
            'task': str(task),
            'cell': task.cell,
            'micro_batch': task.micro_batch,
            'step': number,
            'on_critical_path': task in critical,
          },
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
