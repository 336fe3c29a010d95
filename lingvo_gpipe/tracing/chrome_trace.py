# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trace for Perfetto (ui.perfetto.dev) and for chrome://tracing.

```
  process "measured"     a row a device, a slice a task; a curve a process
  process "simulated"    the same, as predicted
  process "other ops"    a row a device: what ran outside of tasks
```

Source of the format: "Trace Event Format", Google, 2016: complete events (X),
metadata (M), counters (C) and flows (s, f); times are in microseconds. Perfetto
colours a slice by its name without the digits in it, so a kind is a colour
there too; chrome://tracing by `cname`.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from lingvo_gpipe.tracing import bars
from lingvo_gpipe.tracing.analysis import Analysis
from lingvo_gpipe.tracing.measured_step import MeasuredStep

_MEASURED, _SIMULATED, _OTHERS = 1, 2, 3
_PROCESSES = {
  _MEASURED: 'measured',
  _SIMULATED: 'simulated with the measured durations',
  _OTHERS: 'other ops of the devices',
}
_COLOURS = {
  'forward': 'rail_response',
  'backward': 'rail_animation',
  'weight gradient': 'thread_state_running',
  bars.RECOMPUTE: 'rail_load',
}
# Shorter ops than this, in seconds, would only make the file large.
_LEAST_OP = 20e-6
_GAP = 0.1  # Between two steps, as a share of a step.

Event = dict[str, Any]


def chrome_trace(analyses: Mapping[int, Analysis]) -> Event:
  """Traced steps one after the other, as the object to write as JSON."""
  first = next(iter(analyses.values()))
  events = list(_metadata(first.measured))
  offset = 0.0
  numbers = itertools.count()
  for number, analysis in analyses.items():
    measured = analysis.measured
    offset -= min([0.0, *(op.start for op in measured.others)])
    events += _task_slices(analysis, number, offset)
    events += _other_slices(measured, number, offset)
    events += _memory(measured, offset)
    events += _arrows(measured, offset, numbers)
    length = max([measured.length, *(op.end for op in measured.others)])
    offset += (1 + _GAP) * length
  return {'traceEvents': events, 'displayTimeUnit': 'ms'}


def _metadata(measured: MeasuredStep) -> Iterator[Event]:
  for pid, name in _PROCESSES.items():
    yield _named('process_name', pid, 0, name=name)
    yield _named('process_sort_index', pid, 0, sort_index=pid)
    for device, full_name in enumerate(measured.devices):
      if full_name:
        cells = ', '.join(map(str, bars.cells_of(measured.schedule, device)))
        text = f'device {device} (cell {cells}) {full_name}'
        yield _named('thread_name', pid, device, name=text)


def _named(what: str, pid: int, tid: int, **args: Any) -> Event:
  return {'ph': 'M', 'name': what, 'pid': pid, 'tid': tid, 'args': args}


def _task_slices(
  analysis: Analysis, number: int, offset: float
) -> Iterator[Event]:
  panels = bars.panels(analysis, number)
  for pid, panel in zip((_MEASURED, _SIMULATED), panels, strict=True):
    for bar in panel.bars:
      args = {
        'task': str(bar.task),
        'cell': bar.task.cell,
        'micro_batch': bar.task.micro_batch,
        'step': number,
        'on_critical_path': bar.critical,
      }
      parts = [(bar.kind, bar.label, bar.start, bar.end)]
      if bar.recompute:
        end = bar.start + bar.recompute
        parts.append(
          (bars.RECOMPUTE, str(bar.task.micro_batch), bar.start, end)
        )
      for kind, label, start, end in parts:
        yield {
          **_slice(f'{kind} {label}', pid, bar.device, start, end, offset),
          'args': args,
          'cname': _COLOURS[kind],
        }


def _other_slices(
  measured: MeasuredStep, number: int, offset: float
) -> Iterator[Event]:
  for op in measured.others:
    if op.end - op.start >= _LEAST_OP:
      device = measured.devices.index(op.device)
      yield {
        **_slice(op.name, _OTHERS, device, op.start, op.end, offset),
        'args': {'step': number},
      }


def _memory(measured: MeasuredStep, offset: float) -> Iterator[Event]:
  for sample in measured.memory:
    yield {
      'ph': 'C',
      'name': f'resident memory of {sample.process}',
      'pid': _MEASURED,
      'ts': _microseconds(offset + sample.time),
      'args': {'MiB': round(sample.num_bytes / 2**20, 3)},
    }


def _slice(
  name: str, pid: int, tid: int, start: float, end: float, offset: float
) -> Event:
  return {
    'ph': 'X',
    'name': name,
    'pid': pid,
    'tid': tid,
    'ts': _microseconds(offset + start),
    'dur': _microseconds(end - start),
  }


def _microseconds(seconds: float) -> float:
  return round(seconds * 1e6, 3)


def _arrows(
  measured: MeasuredStep, offset: float, numbers: Iterator[int]
) -> Iterator[Event]:
  """From each task to those of other devices that use its result."""
  for task in measured.start:
    for needed in measured.schedule.dependencies(task):
      source, target = measured.device_of(needed), measured.device_of(task)
      if source == target:
        continue
      common = {'cat': 'result', 'name': 'result', 'pid': _MEASURED}
      common['id'] = next(numbers)
      # A flow binds to the slice that its time lies in.
      middle = (measured.start[needed] + measured.end[needed]) / 2
      sent = _microseconds(offset + middle)
      used = _microseconds(offset + measured.start[task])
      yield {**common, 'ph': 's', 'tid': source, 'ts': sent}
      yield {**common, 'ph': 'f', 'bp': 'e', 'tid': target, 'ts': used}
