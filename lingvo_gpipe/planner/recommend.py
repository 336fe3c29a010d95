# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which way to run a model is best, and why."""

import dataclasses
from collections.abc import Iterable, Sequence

from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.schedules import (
  FIT,
  RECOMPUTE_POLICIES,
  SCHEDULE_NAMES,
  place,
)
from lingvo_gpipe.schedules import cells_per_device as cells_wanted
from lingvo_gpipe.schedules.registry import fits

# A step longer by less than this share is as good: what larger micro-batches
# save on a real device is not in the model.
TOLERANCE = 0.02


def settings(
  workload: Workload,
  num_devices: int,
  cells_per_device: int = 0,
  *,
  micro_batches: Sequence[int] = (),
  schedules: Sequence[str] = (),
  recompute: Sequence[str] = (),
  device_memory: int | None = None,
) -> list[Setting]:
  """All ways to run a workload; what is not given is free.

  Args:
    workload: The model.
    num_devices: D.
    cells_per_device: Cells on each device; 0: as many as a schedule wants, if
      there are so many layers.
    micro_batches: The M to look at.
    schedules: The schedules to look at.
    recompute: The recompute policies to look at; by default all, or that as
      registered if nothing is known of activations.
    device_memory: Bytes that a device may hold; without it there is no FIT.
  """
  num_cells = num_devices * max(cells_per_device, 1)
  if not recompute and not workload.knows_activations:
    # Recomputation saves what is not known.
    recompute = (workload.recompute,)
  if not recompute:
    # FIT is the last: where it comes to a policy, that is named instead.
    can_fit = device_memory is not None
    recompute = (*RECOMPUTE_POLICIES, FIT) if can_fit else RECOMPUTE_POLICIES
    if workload.kept:
      recompute = (workload.recompute, *recompute)
  placed = {
    schedule: cells
    for schedule in schedules or workload.schedules
    for cells in [cells_per_device or cells_wanted(schedule)]
    if schedules or _can_have(workload, schedule, num_devices, cells)
  }
  return [
    Setting(num_devices, m, schedule, policy, cells)
    for m in micro_batches or workload.choices(num_cells)
    for schedule, cells in placed.items()
    for policy in recompute
  ]


def _can_have(
  workload: Workload, schedule: str, num_devices: int, cells_per_device: int
) -> bool:
  """Whether there are layers for so many cells, which lie as it wants."""
  num_cells = num_devices * cells_per_device
  if cells_per_device > 1 and num_cells > len(workload.layers):
    return False
  return fits(schedule, place(schedule, num_cells, num_devices))


def forecasts(
  workload: Workload,
  ways: Iterable[Setting],
  speeds: Speeds | None = None,
  device_memory: int | None = None,
  splits: tuple[int, ...] | None = None,
) -> list[Forecast]:
  """What each setting will take; see `forecast`."""
  return [
    forecast(workload, way, speeds, device_memory, splits) for way in ways
  ]


def with_auto(
  forecasts: list[Forecast], device_memory: int | None = None
) -> list[Forecast]:
  """The forecasts, and one more: the best one's with 'auto' as its schedule.

  To look for an order takes seconds: too long for each M and each policy, or
  where no order of the best one's tasks would be quicker by TOLERANCE.
  """
  chosen = best(forecasts)
  if chosen is None or chosen.workload.schedules == ('gpipe',):
    return forecasts
  if chosen.step_time <= chosen.least_step_time() * (1 + TOLERANCE):
    return forecasts
  way = dataclasses.replace(chosen.setting, schedule='auto')
  auto = forecast(chosen.workload, way, chosen.speeds, device_memory)
  return [*forecasts, auto]


def best(forecasts: Sequence[Forecast]) -> Forecast | None:
  """The setting to recommend, or None if none fits.

  Of those that fit and are within 2% of the quickest: the one with the fewest,
  so largest, micro-batches; then the one whose fullest device needs least.
  """
  fitting = [one for one in forecasts if one.fits]
  if not fitting:
    return None
  quickest = min(one.step_time for one in fitting)
  good = [one for one in fitting if one.step_time <= quickest * (1 + TOLERANCE)]
  return min(
    good,
    key=lambda one: (
      one.setting.num_micro_batches,
      one.fullest,
      round(one.step_time / quickest, 3) if quickest else 0,
      _rank(one.setting.schedule),
    ),
  )


def _rank(schedule: str) -> int:
  """Of schedules that are equally good the one of the lowest rank is best.

  First 1F1B, which never stashes more than gpipe; 'auto', which has to be
  looked for, and users' own come last.
  """
  ranks = ('1f1b', *SCHEDULE_NAMES)
  return ranks.index(schedule) if schedule in ranks else len(ranks)


def smallest(forecasts: Sequence[Forecast]) -> Forecast:
  """The setting that needs least, where none fits."""
  least = min(one.fullest for one in forecasts)
  alike = [one for one in forecasts if one.fullest == least]
  # Times take a simulation each.
  return min(alike, key=lambda one: one.step_time) if alike[1:] else alike[0]


def reason(chosen: Forecast, forecasts: Sequence[Forecast]) -> str:
  """Why a setting is the best of those looked at, in a sentence."""
  setting = chosen.setting
  reasons = [
    (
      f'recompute {setting.recompute!r}',
      _why_recompute(chosen, _others(chosen, forecasts, 'recompute')),
    ),
    (
      f'schedule {setting.schedule}',
      _why_schedule(chosen, _others(chosen, forecasts, 'schedule')),
    ),
    (
      f'M = {setting.num_micro_batches}',
      _why_micro_batches(
        chosen, _others(chosen, forecasts, 'num_micro_batches')
      ),
    ),
  ]
  text = '; '.join(
    f'{what}, because {_and(parts)}' for what, parts in reasons if parts
  )
  if not text:
    return 'It is the only setting considered.'
  return text[0].upper() + text[1:] + '.'


def _and(parts: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *first, last = parts
  return f'{", ".join(first)} and {last}' if first else last


def _others(
  chosen: Forecast, forecasts: Sequence[Forecast], field: str
) -> list[Forecast]:
  """Forecasts of settings that differ in one field alone."""
  fields = [field]
  if field == 'schedule':
    # Another one may want other cells.
    fields.append('cells_per_device')
  values = {name: getattr(chosen.setting, name) for name in fields}
  return [
    one
    for one in forecasts
    if one.setting != chosen.setting
    and dataclasses.replace(one.setting, **values) == chosen.setting
  ]


def _longer(one: Forecast, than: Forecast) -> float:
  """By which share one step is longer than another."""
  return one.step_time / than.step_time - 1 if than.step_time else 0.0


def _why_recompute(chosen: Forecast, others: Sequence[Forecast]) -> list[str]:
  parts = []
  for one in others:
    name = one.setting.recompute
    if not one.fits:
      parts.append(f'{name!r} would need {format_bytes(one.fullest)}')
    elif _longer(one, chosen) > 0.001:
      parts.append(f'{name!r} would take {_longer(one, chosen):.1%} longer')
    elif one.fullest > chosen.fullest:
      parts.append(
        f'{name!r} would need {format_bytes(one.fullest - chosen.fullest)} '
        f'more and make the step only {max(_longer(chosen, one), 0):.1%} '
        'shorter'
      )
  return parts


def _why_schedule(chosen: Forecast, others: Sequence[Forecast]) -> list[str]:
  """By the quickest other one that fits, and the smallest that does not."""
  fitting = [one for one in others if one.fits]
  parts = []
  if fitting:
    one = min(fitting, key=lambda one: (one.step_time, one.fullest))
    name, saved = one.setting.schedule, one.fullest - chosen.fullest
    longer = _longer(one, chosen)
    more = f'{format_bytes(saved)} more' if saved else 'as much'
    if longer > 0.001:
      parts.append(f'{name} would take {longer:.1%} longer')
    elif longer < -0.001:
      parts.append(
        f'{name} would make the step only {-longer:.1%} shorter and need {more}'
      )
    elif saved >= 0:
      parts.append(f'{name} would take as long and need {more}')
  too_large = [one for one in others if not one.fits]
  if too_large:
    one = min(too_large, key=lambda one: one.fullest)
    parts.append(
      f'{one.setting.schedule} would need {format_bytes(one.fullest)}'
    )
  return parts


def _why_micro_batches(
  chosen: Forecast, others: Sequence[Forecast]
) -> list[str]:
  others = sorted(others, key=lambda one: one.setting.num_micro_batches)
  m = chosen.setting.num_micro_batches
  fewer = [one for one in others if one.setting.num_micro_batches < m]
  more = [one for one in others if one.setting.num_micro_batches > m]
  parts = []
  for one in (*fewer[-1:], *more[:1]):
    number, longer = one.setting.num_micro_batches, _longer(one, chosen)
    if not one.fits:
      parts.append(f'{number} would need {format_bytes(one.fullest)}')
    elif longer >= 0:
      parts.append(
        f'{number} would take {longer:.1%} longer (bubble {one.bubble:.1%} '
        f'instead of {chosen.bubble:.1%})'
      )
    else:
      parts.append(f'{number} would make it only {-longer:.1%} shorter')
  if fewer and not more:
    parts.append('there is no larger M to choose')
  return parts
