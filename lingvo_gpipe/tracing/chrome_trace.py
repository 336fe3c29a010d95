# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trace for Perfetto (ui.perfetto.dev) and for chrome://tracing.

```
  process "measured"     a row a device, a slice a task
  process "simulated"    the same, as predicted
  process "other ops"    a row a device: what ran outside of tasks
```

Source of the format: "Trace Event Format", Google, 2016: complete events (X),
metadata (M) and flows (s, f); times are in microseconds. Perfetto colours a
slice by its name without the digits in it, so a kind is a colour there too;
chrome://tracing by `cname`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingvo_gpipe.schedules import Task, TaskKind
from lingvo_gpipe.tracing import bars
from lingvo_gpipe.tracing.analysis import Analysis

_MEASURED, _SIMULATED, _OTHERS = 1, 2, 3
_PROCESSES = {
  _MEASURED: 'measured',
  _SIMULATED: 'simulated with the measured durations',
  _OTHERS: 'other ops of the devices',
}
_COLOURS = {
  TaskKind.FORWARD: 'rail_response',
  TaskKind.BACKWARD: 'rail_animation',
  TaskKind.WEIGHT_GRADIENT: 'thread_state_running',
}
# Shorter ops than this, in seconds, would only make the file large.
_LEAST_OP = 20e-6


def chrome_trace(
  analyses: Mapping[int, Analysis], *, gap: float = 0.1
) -> dict[str, Any]:
  """Traced steps one after the other, as the object to write as JSON.

  Args:
    analyses: The steps, by number, ascending.
    gap: The share of a step that lies between two.
  """
  first = next(iter(analyses.values()))
  events = list(_metadata(first))
  offset = 0.0
  flow = 0
  for number, analysis in analyses.items():
    others = [op.start for op in analysis.measured.others]
    offset += max(0.0, -min(others, default=0.0))
    for event in _step_events(analysis, number, offset):
      events.append(event)
    for event in _flows(analysis, offset, flow):
      events.append(event)
      flow += event['ph'] == 'f'
    ends = [op.end for op in analysis.measured.others]
    length = max(analysis.measured.length, *ends, 0.0)
    offset += (1 + gap) * length
  return {'traceEvents': events, 'displayTimeUnit': 'ms'}


def _metadata(analysis: Analysis) -> Iterator[dict[str, Any]]:
  measured = analysis.measured
  for pid, name in _PROCESSES.items():
    yield _named('process_name', pid, 0, name)
    yield {
      'ph': 'M',
      'name': 'process_sort_index',
      'pid': pid,
      'tid': 0,
      'args': {'sort_index': pid},
    }
    for device, full_name in enumerate(measured.devices):
      if full_name:
        cells = ', '.join(map(str, bars.cells_of(measured.schedule, device)))
        text = f'device {device} (cell {cells}) {full_name}'
        yield _named('thread_name', pid, device, text)


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
  return {
    'ph': 'M',
    'name': what,
    'pid': pid,
    'tid': tid,
    'args': {'name': name},
  }


def _step_events(
  analysis: Analysis, number: int, offset: float
) -> Iterator[dict[str, Any]]:
  measured, predicted = analysis.measured, analysis.predicted
  critical = {on_path.task for on_path in analysis.critical_path}
  for pid, start, end, path in (
    (_MEASURED, measured.start, measured.end, critical),
    (
      _SIMULATED,
      predicted.start,
      predicted.end,
      set(predicted.critical_path),
    ),
  ):
    for task in sorted(start, key=lambda t: (start[t], t)):
      args = {
        'task': str(task),
        'cell': task.cell,
        'micro_batch': task.micro_batch,
        'step': number,
        'on_critical_path': task in path,
      }
      yield _slice(
        _name(analysis, task),
        pid,
        measured.device_of(task),
        offset + float(start[task]),
        offset + float(end[task]),
        args,
        _COLOURS[task.kind],
      )
      again = measured.recompute.get(task)
      if again:
        yield _slice(
          f'{bars.RECOMPUTE} {task.micro_batch}',
          pid,
          measured.device_of(task),
          offset + float(start[task]),
          offset + float(start[task]) + again,
          args,
          'rail_load',
        )
  for op in measured.others:
    if op.end - op.start >= _LEAST_OP:
      yield _slice(
        op.name,
        _OTHERS,
        measured.devices.index(op.device),
        offset + op.start,
        offset + op.end,
        {'step': number},
      )


def _name(analysis: Analysis, task: Task) -> str:
  label = bars.task_label(analysis.measured.schedule, task)
  return f'{bars.kind_name(task)} {label}'


def _slice(
  name: str,
  pid: int,
  tid: int,
  start: float,
  end: float,
  args: dict[str, Any],
  colour: str | None = None,
) -> dict[str, Any]:
  event = {
    'ph': 'X',
    'name': name,
    'pid': pid,
    'tid': tid,
    'ts': round(start * 1e6, 3),
    'dur': round((end - start) * 1e6, 3),
    'args': args,
  }
  if colour:
    event['cname'] = colour
  return event


def _flows(
  analysis: Analysis, offset: float, first_id: int
) -> Iterator[dict[str, Any]]:
  """Arrows from each task to those of other devices that use its result."""
  measured = analysis.measured
  pairs: Sequence[tuple[Task, Task]] = [
    (needed, task)
    for task in measured.start
    for needed in measured.schedule.dependencies(task)
    if measured.device_of(needed) != measured.device_of(task)
  ]
  for number, (needed, task) in enumerate(pairs, first_id):
    common = {'cat': 'result', 'name': 'result', 'pid': _MEASURED, 'id': number}
    # A flow binds to the slice that its time lies in.
    middle = (measured.start[needed] + measured.end[needed]) / 2
    yield {
      **common,
      'ph': 's',
      'tid': measured.device_of(needed),
      'ts': round((offset + middle) * 1e6, 3),
    }
    yield {
      **common,
      'ph': 'f',
      'bp': 'e',
      'tid': measured.device_of(task),
      'ts': round((offset + measured.start[task]) * 1e6, 3),
    }
