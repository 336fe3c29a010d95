# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a traced pipeline: as data for JSON, and as text."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import advice, bars
from lingvo_gpipe.tracing.traced_pipeline import TracedPipeline

_MS = 1e3
# With less than this on average, one device works at a time.
_ALONE = 1.05
_MAX_PATH = 12  # Tasks of the critical path that the text shows.

Figures = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]


def numbers(traced: TracedPipeline) -> dict[str, Any]:
  """All figures, in seconds and shares, with nothing that JSON lacks."""
  step, setup = traced.shown.measured, traced.setup
  schedule = step.schedule
  return {
    'model': setup.model,
    'pipeline': setup.name,
    'schedule': schedule.name,
    'num_cells': schedule.num_cells,
    'num_devices': len(set(schedule.cell_devices)),
    'num_micro_batches': schedule.num_micro_batches,
    'recompute': setup.recompute,
    'steps': [
      {
        'step': number,
        'seconds': analysis.measured.seconds,
        'pipeline_seconds': analysis.measured.length,
        'bubble_measured': analysis.bubble,
        'bubble_simulated': analysis.predicted_bubble,
        'simulated_seconds': float(analysis.predicted.step_time),
      }
      for number, analysis in traced.analyses.items()
    ],
    'shown_step': traced.shown_step,
    'seconds': {
      'step': traced.step_seconds,
      'step_untraced': traced.untraced_seconds,
      'pipeline': traced.pipeline_seconds,
      'before_first_task': traced.median(lambda a: a.measured.before),
      'after_last_task': traced.median(lambda a: a.measured.after),
    },
    'bubble': {
      'measured': traced.median(lambda a: a.bubble),
      'simulated': traced.median(lambda a: a.predicted_bubble),
    },
    'devices_busy_at_once': traced.concurrency,
    'devices': [
      {
        'device': device,
        'name': step.devices[device],
        'cells': bars.cells_of(schedule, device),
        'utilisation': share,
      }
      for device, share in enumerate(traced.utilisation)
    ],
    'cells': _cells(traced),
    'slowest_cell': traced.times.slowest,
    'imbalance': traced.times.imbalance,
    'transfers': _transfers(traced),
    'critical_path': _path(traced),
    'proposals': [
      dataclasses.asdict(proposal) for proposal in advice.proposals(traced)
    ],
    'clock_shifts': dict(step.clock_shifts),
  }


def _cells(traced: TracedPipeline) -> list[dict[str, Any]]:
  schedule, times = traced.shown.measured.schedule, traced.times
  return [
    {
      'cell': k,
      'device': schedule.cell_devices[k],
      'layers': layers,
      'forward_seconds': times.of.get((TaskKind.FORWARD, k), 0.0),
      'backward_seconds': times.of.get((TaskKind.BACKWARD, k), 0.0),
      'recompute_seconds': times.recompute[k],
      'seconds': times.total(k),
    }
    for k, layers in enumerate(traced.setup.layers)
  ]


def _transfers(traced: TracedPipeline) -> dict[str, Any]:
  step = traced.shown.measured
  return {
    'seconds_of_all': sum(
      arrived - step.end[needed]
      for (needed, _), arrived in step.arrival.items()
    ),
    'number': len(step.arrival),
    'bytes': step.transfer_bytes,
    'boundary_seconds': list(traced.transfer_times),
    'critical_path_seconds': sum(
      on_path.transfer for on_path in traced.shown.critical_path
    ),
  }


def _path(traced: TracedPipeline) -> dict[str, Any]:
  path = traced.shown.critical_path
  by_cell = [0.0] * traced.times.num_cells
  for on_path in path:
    by_cell[on_path.task.cell] += on_path.duration
  return {
    'seconds': traced.shown.measured.length,
    'task_seconds': sum(by_cell),
    'task_seconds_by_cell': by_cell,
    'transfer_seconds': sum(on_path.transfer for on_path in path),
    'delay_seconds': sum(on_path.delay for on_path in path),
    'tasks': [str(on_path.task) for on_path in path],
  }


def verdict(traced: TracedPipeline) -> str:
  """Whether it is pipelining, and if not why: one sentence or two."""
  schedule, setup = traced.shown.measured.schedule, traced.setup
  num_devices = len(set(schedule.cell_devices))
  busy = f'{traced.concurrency:.2f} of {num_devices} devices work at once'
  if num_devices == 1:
    return 'One device: there is nothing to pipeline.'
  if traced.concurrency > _ALONE:
    text = f'It is pipelining: on average {busy}.'
  elif schedule.num_micro_batches == 1:
    text = f'It is not pipelining: {busy}, since there is one micro-batch only.'
  else:
    text = f'It is not pipelining: {busy}; see below what they wait for.'
  if not setup.are_cpus:
    text += (
      ' But the devices are not CPUs: an op on them ends when its work has '
      'been launched, so tasks seem shorter than they are.'
    )
  elif setup.num_cores < num_devices:
    text += (
      f' But this machine gives them {setup.num_cores} core(s) for '
      f'{num_devices} devices, so tasks that run at the same time slow each '
      'other down.'
    )
  return text


def text(traced: TracedPipeline, figures: Figures) -> str:
  """The figures for a terminal, some lines."""
  parts = [
    f'{figures["model"]}, pipeline {figures["pipeline"]}: K = '
    f'{figures["num_cells"]} cells on {figures["num_devices"]} device(s), M = '
    f'{figures["num_micro_batches"]}, schedule {figures["schedule"]}, '
    f'recompute {figures["recompute"]}; {len(figures["steps"])} step(s) '
    'traced, medians',
    verdict(traced),
    _lengths(figures),
    text_table.table(*device_table(figures)),
    text_table.table(*cell_table(figures)),
    _path_text(figures),
    _transfer_text(figures['transfers']),
    _proposal_text(figures),
  ]
  shifts = figures['clock_shifts']
  if shifts:
    moved = ', '.join(f'{name} by {_ms(s)}' for name, s in shifts.items())
    parts.append(
      f'Clocks did not agree: times were moved ({moved}) so that no task '
      'starts before its inputs are made.'
    )
  return '\n\n'.join(parts)


def _ms(seconds: float) -> str:
  return f'{seconds * _MS:.1f} ms'


def _lengths(figures: Figures) -> str:
  seconds, bubble = figures['seconds'], figures['bubble']
  lines = [
    f'Bubble   measured {bubble["measured"]:.1%}, simulated with the measured '
    f'durations {bubble["simulated"]:.1%}',
    f'Step     {_ms(seconds["step"])}: before the first task '
    f'{_ms(seconds["before_first_task"])}, pipeline '
    f'{_ms(seconds["pipeline"])}, after the last task '
    f'{_ms(seconds["after_last_task"])}',
  ]
  untraced = seconds['step_untraced']
  if untraced:
    lines.append(
      f'Tracing  steps without it took {_ms(untraced)}, so it cost '
      f'{seconds["step"] / untraced - 1:+.0%}'
    )
  return '\n'.join(lines)


def device_table(figures: Figures) -> Table:
  """Header and rows of the devices' table."""
  return ['device', 'cells', 'busy', 'idle'], [
    [
      f'{row["device"]} {row["name"]}',
      ', '.join(map(str, row['cells'])),
      f'{row["utilisation"]:.1%}',
      f'{1 - row["utilisation"]:.1%}',
    ]
    for row in figures['devices']
  ]


def cell_table(figures: Figures) -> Table:
  """Header and rows of the cells' table; times of one micro-batch."""
  header = ['cell', 'device', 'forward ms', 'backward ms', 'recomputed ms']
  header += ['total ms', 'of mean']
  cells = figures['cells']
  mean = sum(row['seconds'] for row in cells) / len(cells)
  rows = []
  for row in cells:
    slowest = len(cells) > 1 and row['cell'] == figures['slowest_cell']
    times = [
      row[f'{name}seconds']
      for name in ('forward_', 'backward_', 'recompute_', '')
    ]
    rows.append(
      [
        f'{row["cell"]} {row["layers"]}{" (slowest)" if slowest else ""}',
        str(row['device']),
        *(f'{time * _MS:.2f}' for time in times),
        f'{row["seconds"] / mean if mean else 1.0:.2f}',
      ]
    )
  return header, rows


def _path_text(figures: Figures) -> str:
  path = figures['critical_path']
  tasks = path['tasks']
  if len(tasks) > _MAX_PATH:
    half = _MAX_PATH // 2
    tasks = [*tasks[:half], f'... {len(tasks) - 2 * half} more ...']
    tasks += path['tasks'][-half:]
  by_cell = ', '.join(
    f'cell {k} {_ms(time)}'
    for k, time in enumerate(path['task_seconds_by_cell'])
  )
  return (
    f'Critical path of step {figures["shown_step"]}: {_ms(path["seconds"])} = '
    f'tasks {_ms(path["task_seconds"])} ({by_cell}) + transfers '
    f'{_ms(path["transfer_seconds"])} + delays {_ms(path["delay_seconds"])}\n'
    f'  {" ".join(tasks)}'
  )


def _transfer_text(transfers: Figures) -> str:
  if not transfers['number']:
    return 'Transfers: none; devices of one process hand over memory.'
  boundaries = ', '.join(
    f'{k} to {k + 1}: {_ms(time)}'
    for k, time in enumerate(transfers['boundary_seconds'])
    if time
  )
  return (
    f'Transfers: {transfers["number"]} between processes in a step, '
    f'{transfers["bytes"] / 2**20:.2f} MiB, {_ms(transfers["seconds_of_all"])} '
    f'in all, {_ms(transfers["critical_path_seconds"])} on the critical path; '
    f'a result takes (cells) {boundaries}'
  )


def _proposal_text(figures: Figures) -> str:
  """What would gain most; what is not worth it is named too."""
  settings, bounds, rest = [], [], []
  for proposal in figures['proposals']:
    if proposal['gain_share'] < advice.WORTH:
      rest.append(proposal['change'])
    elif proposal['setting'] is None:
      bounds.append(f'at most {_proposal_line(figures, proposal)}')
    else:
      settings.append(_proposal_line(figures, proposal))
  if not settings:
    settings = [f'no setting that was tried gains {advice.WORTH:.0%} of a step']
  lines = [*settings, *bounds]
  if rest:
    lines.append(f'less than {advice.WORTH:.0%}, or a loss: {"; ".join(rest)}')
  head = 'What would gain most, simulated with the measured times:'
  return '\n'.join([head, *(f'  {line}' for line in lines)])


def _proposal_line(figures: Figures, proposal: Figures) -> str:
  left = figures['seconds']['step'] - proposal['gain_seconds']
  line = (
    f'{_ms(proposal["gain_seconds"])} ({proposal["gain_share"]:.1%} of a '
    f'step, to {_ms(left)}): {proposal["change"]}'
  )
  if proposal['setting']:
    line += f' [{proposal["setting"]}]'
  if proposal['condition']:
    line += f'; {proposal["condition"]}'
  return line
