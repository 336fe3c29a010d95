# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a traced pipeline: as data for JSON, and as text."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import advice
from lingvo_gpipe.tracing.measured_step import TracedPipeline

# With less than this on average, one device works at a time.
_ALONE = 1.05

Figures = Mapping[str, Any]


def numbers(traced: TracedPipeline) -> dict[str, Any]:
  """All figures, for JSON: in seconds and shares."""
  step = traced.shown
  schedule, cell_seconds = step.schedule, traced.cell_seconds
  return {
    'model': traced.model,
    'pipeline': traced.name,
    'schedule': schedule.name,
    'num_cells': schedule.num_cells,
    'num_devices': len(set(schedule.cell_devices)),
    'num_micro_batches': schedule.num_micro_batches,
    'recompute': traced.recompute,
    'steps': list(traced.steps),
    'shown_step': traced.shown_step,
    'seconds': {
      'step': traced.step_seconds,
      'pipeline': traced.median(lambda step: step.length),
      'before_first_task': traced.median(lambda step: step.before),
      'after_last_task': traced.median(lambda step: step.after),
    },
    'bubble': {
      'measured': traced.median(lambda step: step.bubble),
      'simulated': traced.median(lambda step: float(step.simulated.bubble)),
    },
    'devices_busy_at_once': traced.median(lambda step: step.concurrency),
    'devices': [
      {
        'device': device,
        'name': name,
        'cells': step.cells_of(device),
        'utilisation': statistics.median(
          step.utilisation[device] for step in traced.steps.values()
        ),
      }
      for device, name in enumerate(step.devices)
    ],
    'cells': _cells(traced),
    'slowest_cell': cell_seconds.index(max(cell_seconds)),
    'transfers': {
      'number': len(step.arrival),
      'boundary_seconds': traced.transfer_times,
    },
    'critical_path': _path(traced),
    'proposals': list(map(dataclasses.asdict, advice.proposals(traced))),
    'clock_shifts': dict(step.clock_shifts),
  }


def _cells(traced: TracedPipeline) -> list[dict[str, Any]]:
  return [
    {
      'cell': k,
      'device': traced.shown.schedule.cell_devices[k],
      'layers': layers,
      'forward_seconds': traced.times.get((TaskKind.FORWARD, k), 0.0),
      'backward_seconds': traced.times.get((TaskKind.BACKWARD, k), 0.0),
      'recompute_seconds': traced.recompute_times[k],
      'seconds': traced.cell_seconds[k],
    }
    for k, layers in enumerate(traced.layers)
  ]


def _path(traced: TracedPipeline) -> dict[str, Any]:
  step = traced.shown
  path = step.critical_path
  by_cell = [0.0] * step.schedule.num_cells
  for on_path in path:
    by_cell[on_path.task.cell] += step.duration(on_path.task)
  return {
    'seconds': step.length,
    'task_seconds': sum(by_cell),
    'task_seconds_by_cell': by_cell,
    'transfer_seconds': sum(on_path.transfer for on_path in path),
    'delay_seconds': sum(on_path.delay for on_path in path),
    'tasks': [str(on_path.task) for on_path in path],
  }


def text(traced: TracedPipeline, figures: Figures) -> str:
  f = figures
  parts = [
    f'{f["model"]}, pipeline {f["pipeline"]}: K = {f["num_cells"]} cells on '
    f'{f["num_devices"]} device(s), M = {f["num_micro_batches"]}, schedule '
    f'{f["schedule"]}, recompute {f["recompute"]}; {len(f["steps"])} step(s) '
    'traced, medians',
    verdict(traced),
    _lengths(f),
    _cell_table(f),
    _path_text(f),
    _transfer_text(f),
    '\n  '.join(_proposal_lines(f['proposals'])),
  ]
  if f['clock_shifts']:
    moved = (f'{name} by {_ms(s)}' for name, s in f['clock_shifts'].items())
    parts.append(
      f'Clocks did not agree: times were moved ({", ".join(moved)}), so that '
      'no task starts before its inputs are made.'
    )
  return '\n\n'.join(parts)


def verdict(traced: TracedPipeline) -> str:
  """Whether it is pipelining, and if not why."""
  schedule = traced.shown.schedule
  num_devices = len(set(schedule.cell_devices))
  if num_devices == 1:
    return 'One device: there is nothing to pipeline.'
  concurrency = traced.median(lambda step: step.concurrency)
  busy = f'{concurrency:.2f} of {num_devices} devices work at once'
  if concurrency > _ALONE:
    text = f'It is pipelining: on average {busy}.'
  elif schedule.num_micro_batches == 1:
    text = f'It is not pipelining: {busy}, since there is one micro-batch only.'
  else:
    text = f'It is not pipelining: {busy}; see below what they wait for.'
  if not traced.are_cpus:
    text += (
      ' But the devices are not CPUs: tasks seem shorter than they are, since '
      'an op ends when its work has been launched.'
    )
  elif traced.num_cores < num_devices:
    text += (
      f' But they have {traced.num_cores} core(s) for {num_devices} devices, '
      'so tasks that run at the same time slow each other down.'
    )
  return text


def _ms(seconds: float) -> str:
  return f'{1e3 * seconds:.1f} ms'


def _lengths(figures: Figures) -> str:
  seconds, bubble = figures['seconds'], figures['bubble']
  busy = ', '.join(
    f'device {row["device"]} {row["utilisation"]:.1%}'
    for row in figures['devices']
  )
  return (
    f'Bubble   measured {bubble["measured"]:.1%}, simulated with the measured '
    f'durations {bubble["simulated"]:.1%}\n'
    f'Busy     {busy}\n'
    f'Step     {_ms(seconds["step"])}: before the first task '
    f'{_ms(seconds["before_first_task"])}, pipeline {_ms(seconds["pipeline"])}'
    f', after the last task {_ms(seconds["after_last_task"])}'
  )


def _cell_table(figures: Figures) -> str:
  times = {
    'forward ms': 'forward_seconds',
    'backward ms': 'backward_seconds',
    'recomputed ms': 'recompute_seconds',
    'total ms': 'seconds',
  }
  rows = []
  for row in figures['cells']:
    slowest = ' (slowest)' if row['cell'] == figures['slowest_cell'] else ''
    rows.append(
      [
        f'{row["cell"]} {row["layers"]}{slowest}',
        str(row['device']),
        *(f'{1e3 * row[name]:.2f}' for name in times.values()),
      ]
    )
  return text_table.table(['cell', 'device', *times], rows)


def _path_text(figures: Figures) -> str:
  path = figures['critical_path']
  by_cell = ', '.join(
    f'cell {k} {_ms(time)}'
    for k, time in enumerate(path['task_seconds_by_cell'])
  )
  return (
    f'Critical path of step {figures["shown_step"]}: {_ms(path["seconds"])} = '
    f'tasks {_ms(path["task_seconds"])} ({by_cell}) + transfers '
    f'{_ms(path["transfer_seconds"])} + delays {_ms(path["delay_seconds"])}'
  )


def _transfer_text(figures: Figures) -> str:
  transfers = figures['transfers']
  if not transfers['number']:
    return 'Transfers: none; devices of one process hand over memory.'
  boundaries = ', '.join(
    f'{k} to {k + 1}: {_ms(time)}'
    for k, time in enumerate(transfers['boundary_seconds'])
    if time
  )
  return (
    f'Transfers: {transfers["number"]} between processes in a step; a result '
    f'takes (cells) {boundaries}'
  )


def _proposal_lines(proposals: Sequence[Figures]) -> list[str]:
  worth, rest = [], []
  for proposal in proposals:
    if proposal['gain_share'] < advice.WORTH:
      rest.append(proposal['change'])
      continue
    setting, condition = proposal['setting'], proposal['condition']
    worth.append(
      ('' if setting else 'at most ')
      + f'{_ms(proposal["gain_seconds"])} ({proposal["gain_share"]:.1%} of a '
      f'step): {proposal["change"]}'
      + (f' [{setting}]' if setting else '')
      + (f'; {condition}' if condition else '')
    )
  if rest:
    worth.append(f'less than {advice.WORTH:.0%}, or a loss: {"; ".join(rest)}')
  return ['What would gain most, simulated with the measured times:', *worth]
