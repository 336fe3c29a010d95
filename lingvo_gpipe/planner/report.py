# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A plan as text: the cut, each device's memory, and other ways to run it."""

import dataclasses
import functools

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.cut_table import CutTable
from lingvo_gpipe.cutting.units import format_bytes, parse_bytes
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast
from lingvo_gpipe.planner.workload import Setting, Workload

_KINDS = ('weights', 'gradients', 'slots', 'stash', 'activations', 'total')


@dataclasses.dataclass(frozen=True)
class PlanReport:
  """A plan for some devices; with `show_all` also ways that do not fit."""

  workload: Workload
  forecasts: tuple[Forecast, ...]
  device_memory: int | None = None
  show_all: bool = False

  @functools.cached_property
  def chosen(self) -> Forecast | None:
    """The recommended way; None if none fits."""
    return recommend.best(self.forecasts)

  @functools.cached_property
  def shown(self) -> Forecast:
    """Whose cut is shown: the chosen, or the one that needs least."""
    return self.chosen or recommend.smallest(self.forecasts)

  def to_text(self) -> str:
    work, shown = self.workload, self.shown
    setting, size = shown.setting, work.mini_batch_size or 'unknown size'
    devices = [str(cell.device) for cell in shown.partition.cells]
    table = CutTable(shown.partition, work.basis, devices)
    return (
      f'{work.name}: {work.parameters:,} parameters in {len(work.layers)} '
      f'layers, mini-batch of {size}\nK = {setting.num_cells} cells on '
      f'{setting.num_devices} devices, cut by {work.basis}:\n'
      f'{table.to_text()}\n\n{self.memory_text(shown)}\n\n'
      f'Ways to run it on {setting.num_devices} devices:\n{self.ways_text()}'
      f'\n\n{self.verdict()}'
    )

  def memory_text(self, shown: Forecast) -> str:
    limit = self.device_memory
    header = ['device', 'kept', *_KINDS]
    header += [] if limit is None else [f'of {format_bytes(limit)}']
    rows = []
    for i, device in enumerate(shown.devices):
      needs = [format_bytes(getattr(device, kind)) for kind in _KINDS]
      row = [str(i), f'{device.kept:.0%}', *needs]
      if limit is not None:
        too_much = ': too much' if device.total > limit else ''
        row.append(f'{device.total / limit:.0%}{too_much}')
      rows.append(row)
    text = text_table.table(header, rows)
    if not self.workload.knows_activations:
      text += (
        '\nThe memory of activations is not known: give --input_shapes, the '
        'shapes of a micro-batch.'
      )
    return text

  def ways_text(self) -> str:
    header = ['schedule', 'K', 'recompute', 'M', 'examples', 'step']
    header += ['speed-up', 'bubble', 'recomputing', 'fullest device']
    header += [''] if self.device_memory is None else ['fits', '']
    shown = [
      one
      for one in self.forecasts
      if self.show_all or self._is_registered(one) or self._is_worth(one)
    ]
    text = text_table.table(header, [self._way(one) for one in shown])
    hidden = len(self.forecasts) - len(shown)
    if hidden:
      text += (
        f'\n{hidden} settings are hidden: they do not fit, or another one with '
        'the same M and recompute policy is as fast and needs no more memory. '
        '--all shows them.'
      )
    return text

  def _is_worth(self, one: Forecast) -> bool:
    """Whether no other with its M and policy (FIT: or any) beats it in all."""

    def is_rival(other: Forecast) -> bool:
      if other.setting.num_micro_batches != one.setting.num_micro_batches:
        return False
      if other.setting.recompute != one.setting.recompute:
        return one.setting.recompute == schedules.FIT
      return (other.step_time, other.fullest) != (one.step_time, one.fullest)

    return one.fits and not any(
      other.fits
      and is_rival(other)
      and other.step_time <= one.step_time
      and other.fullest <= one.fullest
      for other in self.forecasts
    )

  def _way(self, one: Forecast) -> list[str]:
    setting = one.setting
    # What does not fit is cut for memory alone: its times say little.
    times = ['-'] * 4
    if one.fits:
      times = [
        one.speeds.text(one.step_time),
        f'{one.speedup:.2f}',
        f'{one.bubble:.1%}',
        f'{one.recomputation:.1%}',
      ]
    marks = {
      'recommended': self.chosen and setting == self.chosen.setting,
      'as registered': self._is_registered(one),
    }
    return [
      setting.schedule,
      str(setting.num_cells),
      setting.recompute,
      str(setting.num_micro_batches),
      str(one.examples or '?'),
      *times,
      format_bytes(one.fullest),
      *([] if self.device_memory is None else ['yes' if one.fits else 'no']),
      ', '.join(mark for mark, is_so in marks.items() if is_so),
    ]

  def _is_registered(self, one: Forecast) -> bool:
    return all(
      getattr(self.workload, name) == getattr(one.setting, name)
      for name in ('schedule', 'recompute', 'num_micro_batches')
    )

  def verdict(self) -> str:
    """The recommendation with its reason, and what times mean."""
    lines = []
    setting = self.shown.setting
    if self.chosen is None:
      lines.append(
        f'None of these fits. {setting} needs the least: '
        f'{format_bytes(self.shown.fullest)} on the fullest device.'
      )
    elif len(self.forecasts) > 1:
      reason = recommend.reason(self.chosen, self.forecasts)
      lines.append(f'Recommended: {self._params_text(setting)}. {reason}')
    is_split = setting.schedule not in schedules.WHOLE_NAMES
    if is_split and any(
      layer.backward and layer.weight_share is None
      for layer in self.workload.layers
    ):
      lines.append(
        'It is not known how the time of backward passes divides into '
        'gradients of inputs and gradients of weights: each counts as half.'
      )
    if self.shown.examples == 1:
      lines.append(
        'A micro-batch is 1 example, so batch norm, if there is any, '
        'normalises it by itself. --min_examples=2 leaves such settings out.'
      )
    if not self.shown.speeds.are_absolute:
      lines.append(
        'Times are relative: 1 is a step on one device without recomputation. '
        'With --device_speed they are seconds.'
      )
    return '\n'.join(lines)

  def _params_text(self, setting: Setting) -> str:
    text = f'schedule={setting.schedule}, '
    if setting.cells_per_device > 1:
      text += f'num_partitions={setting.num_cells}, '
    text += f'num_micro_batches={setting.num_micro_batches}, '
    text += f'recompute={setting.recompute}'
    limit = self.device_memory
    if setting.recompute == schedules.FIT and limit is not None:
      short = format_bytes(limit, 0)
      is_exact = parse_bytes(short) == limit
      text += f' with device_memory={(short if is_exact else limit)!r}'
    return text
