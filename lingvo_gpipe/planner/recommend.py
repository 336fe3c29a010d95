# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which way to run a model is best, and why."""

import dataclasses
from collections.abc import Iterable, Sequence

from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.schedules import RECOMPUTE_POLICIES

# A step longer by less than this share is as good: what larger micro-batches
# save on a real device is not in the model.
TOLERANCE = 0.02


def settings(
  workload: Workload,
  num_devices: int,
  cells_per_device: int = 1,
  *,
  micro_batches: Sequence[int] = (),
  schedules: Sequence[str] = (),
  recompute: Sequence[str] = (),
) -> list[Setting]:
  """All ways to run a workload; what is not given is free.

  Args:
    workload: The model.
    num_devices: D.
    cells_per_device: Cells on each device.
    micro_batches: The M to look at.
    schedules: The schedules to look at.
    recompute: The recompute policies to look at; by default all, or that as
      registered if nothing is known of activations.
  """
  num_cells = num_devices * cells_per_device
  if not recompute and not workload.knows_activations:
    # Recomputation saves what is not known.
    recompute = (workload.recompute,)
  return [
    Setting(num_devices, m, schedule, policy, cells_per_device)
    for m in micro_batches or workload.choices(num_cells)
    for schedule in schedules or workload.schedules
    for policy in recompute or RECOMPUTE_POLICIES
  ]


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
      one.step_time,
      # Of equal ones 1F1B, which never stashes more.
      one.setting.schedule != '1f1b',
      one.setting.schedule,
    ),
  )


def smallest(forecasts: Sequence[Forecast]) -> Forecast:
  """The setting that needs least, where none fits."""
  return min(forecasts, key=lambda one: (one.fullest, one.step_time))


def reason(chosen: Forecast, forecasts: Sequence[Forecast]) -> str:
  """Why a setting is the best of those looked at, in a sentence."""
  setting = chosen.setting
  reasons = [
    (
      f'recompute {setting.recompute!r}',
      _why_recompute(chosen, _others(chosen, forecasts, 'recompute')),
    ),
    (
      setting.schedule,
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
    f'{what}, because {" and ".join(parts)}' for what, parts in reasons if parts
  )
  if not text:
    return 'It is the only setting considered.'
  return text[0].upper() + text[1:] + '.'


def _others(
  chosen: Forecast, forecasts: Sequence[Forecast], field: str
) -> list[Forecast]:
  """Forecasts of settings that differ in one field alone."""
  value = getattr(chosen.setting, field)
  return [
    one
    for one in forecasts
    if one.setting != chosen.setting
    and dataclasses.replace(one.setting, **{field: value}) == chosen.setting
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
        f'{name!r} would gain {max(_longer(chosen, one), 0):.1%} and need '
        f'{format_bytes(one.fullest - chosen.fullest)} more'
      )
  return parts


def _why_schedule(chosen: Forecast, others: Sequence[Forecast]) -> list[str]:
  for one in others:
    name = one.setting.schedule
    saved = one.fullest - chosen.fullest
    if not one.fits:
      return [f'{name} would need {format_bytes(one.fullest)}']
    if _longer(one, chosen) > 0.001:
      return [f'{name} would take {_longer(one, chosen):.1%} longer']
    if saved >= 0:
      more = f'{format_bytes(saved)} more' if saved else 'as much'
      return [f'{name} would take as long and need {more}']
  return []


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
      parts.append(f'{number} would gain only {-longer:.1%}')
  if fewer and not more:
    parts.append('there is no larger M to choose')
  return parts
