# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which way to run a model is best, and why."""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner.forecast import Forecast, forecast
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
# Steps that differ by less take as long.
_ALIKE = 0.001
# Of schedules that are equally good the first is best: 1F1B never stashes more
# than gpipe. 'auto', which has to be looked for, and users' own come last.
_RANKS = ('1f1b', *SCHEDULE_NAMES)
# What of a setting there are reasons for.
_FIELDS = ('recompute', 'schedule', 'num_micro_batches')


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

  Without `cells_per_device` there are as many as a schedule wants, if there are
  so many layers. Without `device_memory`, in bytes, there is no FIT.
  """
  if not recompute and not workload.knows_activations:
    # Recomputation saves what is not known.
    recompute = (workload.recompute,)
  elif not recompute:
    listed = (workload.recompute,) if workload.kept else ()
    # FIT is the last: where it comes to a policy, that is named instead.
    fit = () if device_memory is None else (FIT,)
    recompute = (*listed, *RECOMPUTE_POLICIES, *fit)
  placed = {
    schedule: cells
    for schedule in schedules or workload.schedules
    for cells in [cells_per_device or cells_wanted(schedule)]
    if schedules or _can_have(workload, schedule, num_devices, cells)
  }
  num_cells = num_devices * max(cells_per_device, 1)
  return [
    Setting(num_devices, m, schedule, policy, cells)
    for m in micro_batches or workload.choices(num_cells)
    for schedule, cells in placed.items()
    for policy in recompute
  ]


def _can_have(
  workload: Workload, schedule: str, num_devices: int, cells_per_device: int
) -> bool:
  num_cells = num_devices * cells_per_device
  if cells_per_device > 1 and num_cells > len(workload.layers):
    return False
  return fits(schedule, place(schedule, num_cells, num_devices))


def with_auto(
  forecasts: list[Forecast], device_memory: int | None = None
) -> list[Forecast]:
  """The forecasts, and the best one's with 'auto', if that could be quicker."""
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
  quickest = min((one.step_time for one in fitting), default=0.0)

  def rank(one: Forecast) -> tuple[float, ...]:
    name = one.setting.schedule
    return (
      one.setting.num_micro_batches,
      one.fullest,
      round(one.step_time / quickest, 3) if quickest else 0,
      _RANKS.index(name) if name in _RANKS else len(_RANKS),
    )

  good = [one for one in fitting if one.step_time <= quickest * (1 + TOLERANCE)]
  return min(good, key=rank, default=None)


def smallest(forecasts: Sequence[Forecast]) -> Forecast:
  """The setting that needs least, where none fits."""
  least = min(one.fullest for one in forecasts)
  alike = [one for one in forecasts if one.fullest == least]
  # Times take a simulation each.
  return min(alike, key=lambda one: one.step_time) if alike[1:] else alike[0]


def reason(chosen: Forecast, forecasts: Sequence[Forecast]) -> str:
  """Why a setting is the best of those looked at, in a sentence."""
  recompute, schedule, micro_batches = (
    _others(chosen, forecasts, field) for field in _FIELDS
  )
  rivals = (
    recompute,
    _closest(schedule),
    _next(micro_batches, chosen.setting.num_micro_batches),
  )
  reasons = []
  for field, others in zip(_FIELDS, rivals, strict=True):
    if others:
      *first, last = (
        f'{getattr(one.setting, field)!r} would {_compared(one, chosen)}'
        for one in others
      )
      because = f'{", ".join(first)} and {last}' if first else last
      value = getattr(chosen.setting, field)
      reasons.append(f'{field} {value!r}, because {because}')
  if not reasons:
    return 'It is the only setting considered.'
  text = '; '.join(reasons)
  return text[0].upper() + text[1:] + '.'


def _others(
  chosen: Forecast, forecasts: Sequence[Forecast], field: str
) -> list[Forecast]:
  """Forecasts of settings that differ in one field alone."""
  same = {field: getattr(chosen.setting, field)}
  if field == 'schedule':
    # Another one may want other cells.
    same['cells_per_device'] = chosen.setting.cells_per_device
  return [
    one
    for one in forecasts
    if one.setting != chosen.setting
    and dataclasses.replace(one.setting, **same) == chosen.setting
  ]


def _closest(others: Sequence[Forecast]) -> list[Forecast]:
  """The quickest that fits, and the smallest that does not."""
  fitting = [one for one in others if one.fits]
  fitting.sort(key=lambda one: (one.step_time, one.fullest))
  too_large = [one for one in others if not one.fits]
  too_large.sort(key=lambda one: one.fullest)
  return [*fitting[:1], *too_large[:1]]


def _next(others: Sequence[Forecast], m: int) -> list[Forecast]:
  """The next smaller M and the next larger one."""
  others = sorted(others, key=lambda one: one.setting.num_micro_batches)
  fewer = [one for one in others if one.setting.num_micro_batches < m]
  return [*fewer[-1:], *others[len(fewer) : len(fewer) + 1]]


def _compared(one: Forecast, chosen: Forecast) -> str:
  if not one.fits:
    return f'need {format_bytes(one.fullest)}'
  longer = one.step_time / chosen.step_time - 1 if chosen.step_time else 0.0
  if longer > _ALIKE:
    return f'take {longer:.1%} longer'
  text = 'take as long'
  if longer < -_ALIKE:
    text = f'make the step only {-longer:.1%} shorter'
  more = one.fullest - chosen.fullest
  if more < 0:
    return text
  return f'{text} and need ' + (
    f'{format_bytes(more)} more' if more else 'as much'
  )
