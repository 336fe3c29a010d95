# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a traced pipeline: as data for JSON, and as text."""

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


def numbers(traced: TracedPipeline) -> dict[str, Any]:
  """All figures, in seconds and shares, with nothing that JSON lacks."""
  schedule = traced.shown.measured.schedule
  setup = traced.setup
  return {
    'model': setup.model,
    'pipeline': setup.name,
    'schedule': schedule.name,
    'num_cells': schedule.num_cells,
    'num_devices': len(set(schedule.cell_devices)),
    'num_micro_batches': schedule.num_micro_batches,
    'recompute': setup.recompute,
    'steps': _steps(traced),
    'shown_step': traced.shown_step,
    'seconds': {
      'step': traced.step_seconds,
      'step_untraced': traced.untraced_seconds,
      'pipeline': traced.pipeline_seconds,
      'before_first_task': traced.before_seconds,
      'after_last_task': traced.after_seconds,
    },
    'bubble': {
      'measured': traced.bubble,
      'simulated': traced.predicted_bubble,
    },
    'devices_busy_at_once': traced.concurrency,
    'devices': _devices(traced),
    'cells': _cells(traced),
    'slowest_cell': traced.times.slowest,
    'imbalance': traced.times.imbalance,
    'transfers': _transfers(traced),
    'critical_path': _path(traced),
    'proposals': _proposals(traced),
    'clock_shifts': dict(traced.shown.measured.clock_shifts),
  }


def _steps(traced: TracedPipeline) -> list[dict[str, Any]]:
  return [
    {
      'step': number,
      'seconds': analysis.measured.seconds,
      'pipeline_seconds': analysis.measured.length,
      'bubble_measured': analysis.bubble,
      'bubble_simulated': analysis.predicted_bubble,
      'simulated_seconds': float(analysis.predicted.step_time),
    }
    for number, analysis in traced.analyses.items()
  ]


def _devices(traced: TracedPipeline) -> list[dict[str, Any]]:
  step = traced.shown.measured
  return [
    {
      'device': device,
      'name': step.devices[device],
      'cells': bars.cells_of(step.schedule, device),
      'utilisation': share,
    }
    for device, share in enumerate(traced.utilisation)
  ]


def _proposals(traced: TracedPipeline) -> list[dict[str, Any]]:
  return [
    {
      'change': proposal.change,
      'gain_seconds': proposal.gain,
      'gain_share': proposal.share,
      'condition': proposal.condition,
      'setting': proposal.setting,
    }
    for proposal in traced.proposals
  ]


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
  schedule = traced.shown.measured.schedule
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
  setup = traced.setup
  if not setup.are_cpus:
    text += (
      ' But the devices are not CPUs: an op on them ends when its work has '
      'been launched, so tasks seem shorter than they are.'
    )
  if setup.are_cpus and setup.num_cores < num_devices:
    text += (
      f' But this machine gives them {setup.num_cores} core(s) for '
      f'{num_devices} devices, so tasks that run at the same time slow each '
      'other down.'
    )
  return text


def text(traced: TracedPipeline) -> str:
  """The figures for a terminal, some lines."""
  found = numbers(traced)
  parts = [
    _headline(found),
    verdict(traced),
    _lengths(found),
    text_table.table(*device_table(found)),
    text_table.table(*cell_table(found)),
    _path_text(found),
    _transfer_text(found),
    proposal_text(found),
    *clock_text(found),
  ]
  return '\n\n'.join(parts)


def _headline(found: Mapping[str, Any]) -> str:
  return (
    f'{found["model"]}, pipeline {found["pipeline"]}: K = '
    f'{found["num_cells"]} cells on {found["num_devices"]} device(s), M = '
    f'{found["num_micro_batches"]}, schedule {found["schedule"]}, recompute '
    f'{found["recompute"]}; {len(found["steps"])} step(s) traced, medians'
  )


def _ms(seconds: float) -> str:
  return f'{seconds * _MS:.1f} ms'


def _lengths(found: Mapping[str, Any]) -> str:
  seconds, bubble = found['seconds'], found['bubble']
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


Table = tuple[list[str], list[list[str]]]


def device_table(found: Mapping[str, Any]) -> Table:
  """Header and rows of the devices' table."""
  return ['device', 'cells', 'busy', 'idle'], [
    [
      f'{row["device"]} {row["name"]}',
      ', '.join(map(str, row['cells'])),
      f'{row["utilisation"]:.1%}',
      f'{1 - row["utilisation"]:.1%}',
    ]
    for row in found['devices']
  ]


def cell_table(found: Mapping[str, Any]) -> Table:
  """Header and rows of the cells' table; times of one micro-batch."""
  header = ['cell', 'device', 'forward ms', 'backward ms', 'recomputed ms']
  header += ['total ms', 'of mean']
  mean = sum(row['seconds'] for row in found['cells']) / len(found['cells'])
  rows = []
  for row in found['cells']:
    slowest = ' (slowest)' if row['cell'] == found['slowest_cell'] else ''
    if len(found['cells']) == 1:
      slowest = ''
    times = [
      row[f'{name}seconds']
      for name in ('forward_', 'backward_', 'recompute_', '')
    ]
    share = row['seconds'] / mean if mean else 1.0
    rows.append(
      [
        f'{row["cell"]} {row["layers"]}{slowest}',
        str(row['device']),
        *(f'{time * _MS:.2f}' for time in times),
        f'{share:.2f}',
      ]
    )
  return header, rows


def _path_text(found: Mapping[str, Any]) -> str:
  path = found['critical_path']
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
    f'Critical path of step {found["shown_step"]}: {_ms(path["seconds"])} = '
    f'tasks {_ms(path["task_seconds"])} ({by_cell}) + transfers '
    f'{_ms(path["transfer_seconds"])} + delays {_ms(path["delay_seconds"])}\n'
    f'  {" ".join(tasks)}'
  )


def _transfer_text(found: Mapping[str, Any]) -> str:
  transfers = found['transfers']
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


def proposal_lines(found: Mapping[str, Any], *, bounds: bool) -> list[str]:
  """What would gain most, a line each; what gains nothing is left out.

  Args:
    found: All figures.
    bounds: Whether to give those that no setting reaches, or the others.
  """
  step = found['seconds']['step']
  lines = []
  for proposal in found['proposals']:
    is_bound = proposal['setting'] is None
    if proposal['gain_share'] < advice.WORTH or is_bound != bounds:
      continue
    line = (
      f'{_ms(proposal["gain_seconds"])} ({proposal["gain_share"]:.1%} of a '
      f'step, to {_ms(step - proposal["gain_seconds"])}): {proposal["change"]}'
    )
    if proposal['setting']:
      line += f' [{proposal["setting"]}]'
    if proposal['condition']:
      line += f'; {proposal["condition"]}'
    lines.append(line)
  return lines


def proposal_text(found: Mapping[str, Any]) -> str:
  """The proposals as text, those that are not worth it named too."""
  head = 'What would gain most, simulated with the measured times:'
  lines = proposal_lines(found, bounds=False)
  if not lines:
    lines = [f'no setting that was tried gains {advice.WORTH:.0%} of a step']
  lines += [f'at most {line}' for line in proposal_lines(found, bounds=True)]
  rest = [
    proposal['change']
    for proposal in found['proposals']
    if proposal['gain_share'] < advice.WORTH
  ]
  if rest:
    lines.append(f'less than {advice.WORTH:.0%}, or a loss: {"; ".join(rest)}')
  return '\n'.join([head, *(f'  {line}' for line in lines)])


def clock_text(found: Mapping[str, Any]) -> list[str]:
  """What was done to clocks, if anything."""
  shifts = found['clock_shifts']
  if not shifts:
    return []
  moved = ', '.join(f'{name} by {_ms(s)}' for name, s in shifts.items())
  return [
    f'Clocks did not agree: times were moved ({moved}) so that no task starts '
    'before its inputs are made.'
  ]
