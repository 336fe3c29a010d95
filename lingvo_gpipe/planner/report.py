# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A plan as text: the cut, each device's memory, and other ways to run it."""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe.cutting import cut_table, text_table
from lingvo_gpipe.cutting.units import format_bytes, format_seconds
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast
from lingvo_gpipe.planner.workload import Workload


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is planned for a number of devices.

  Attributes:
    workload: The model.
    forecasts: What each way to run it takes.
    chosen: The recommended one; None if none fits.
    device_memory: Bytes that a device may hold; None for no limit.
    absolute: Whether times are in seconds.
    show_all: Whether ways that do not fit are in the table.
  """

  workload: Workload
  forecasts: tuple[Forecast, ...]
  chosen: Forecast | None
  device_memory: int | None = None
  absolute: bool = False
  show_all: bool = False

  @property
  def shown(self) -> Forecast:
    """Whose cut is shown: the chosen, or the one that needs least."""
    if self.chosen is not None:
      return self.chosen
    return min(self.forecasts, key=lambda one: (one.fullest, one.step_time))

  def to_text(self) -> str:
    """The whole plan."""
    shown = self.shown
    setting = shown.setting
    parts = [
      self._headline(),
      self._cut(shown),
      '',
      self.memory_text(shown),
      '',
      f'Ways to run it on {setting.num_devices} devices:',
      self.ways_text(),
      '',
      self.verdict(),
    ]
    return '\n'.join(parts)

  def _headline(self) -> str:
    work, setting = self.workload, self.shown.setting
    size = work.mini_batch_size
    batch = f'mini-batch of {size}' if size else 'mini-batch of unknown size'
    return (
      f'{work.name}: {work.parameters:,} parameters in {len(work.layers)} '
      f'layers, {batch}\nK = {setting.num_cells} cells on '
      f'{setting.num_devices} devices, cut by {work.basis}:'
    )

  def _cut(self, shown: Forecast) -> str:
    cells = shown.partition.cells
    names = [str(cell.device) for cell in cells]
    return cut_table.cut_table(
      shown.partition, self.workload.basis, names
    ).to_text()

  def memory_text(self, shown: Forecast) -> str:
    """Each device's memory by kind."""
    rows = [
      [
        str(device.device),
        *map(
          format_bytes,
          (
            device.weights,
            device.gradients,
            device.slots,
            device.stash,
            device.activations,
            device.total,
          ),
        ),
        *self._room(device.total),
      ]
      for device in shown.devices
    ]
    header = ['device', 'weights', 'gradients', 'slots', 'stash', 'activations']
    header.append('total')
    if self.device_memory is not None:
      header.append(f'of {format_bytes(self.device_memory)}')
    note = ''
    if not self.workload.knows_activations:
      note = (
        '\nThe memory of activations is not known: give --input_shapes, the '
        'shapes of a micro-batch.'
      )
    return text_table.table(header, rows) + note

  def _room(self, total: int) -> list[str]:
    if self.device_memory is None:
      return []
    share = f'{total / self.device_memory:.0%}'
    return [share if total <= self.device_memory else f'{share}: too much']

  def ways_text(self) -> str:
    """A row for each way to run the model that fits, or for all."""
    header = ['schedule', 'recompute', 'M', 'examples', 'step', 'speed-up']
    header += ['bubble', 'fullest device']
    if self.device_memory is not None:
      header.append('fits')
    header.append('')
    shown = [
      one
      for one in self.forecasts
      if one.fits or self.show_all or self._is_registered(one)
    ]
    text = text_table.table(header, [self._way(one) for one in shown])
    hidden = len(self.forecasts) - len(shown)
    if hidden:
      text += f'\n{hidden} more do not fit; --all shows them.'
    return text

  def _way(self, one: Forecast) -> list[str]:
    setting = one.setting
    examples = self.workload.micro_batch(setting.num_micro_batches)
    cells = [
      setting.schedule,
      setting.recompute,
      str(setting.num_micro_batches),
      str(examples or '?'),
      # What does not fit is cut for memory alone: its times say little.
      self.time_text(one.step_time) if one.fits else '-',
      f'{one.speedup:.2f}' if one.fits else '-',
      f'{one.bubble:.1%}' if one.fits else '-',
      format_bytes(one.fullest),
    ]
    if self.device_memory is not None:
      cells.append('yes' if one.fits else 'no')
    return [*cells, self._mark(one)]

  def _mark(self, one: Forecast) -> str:
    marks = []
    if self.chosen is not None and one.setting == self.chosen.setting:
      marks.append('recommended')
    if self._is_registered(one):
      marks.append('as registered')
    return ', '.join(marks)

  def _is_registered(self, one: Forecast) -> bool:
    work, setting = self.workload, one.setting
    return (work.schedule, work.recompute, work.num_micro_batches) == (
      setting.schedule,
      setting.recompute,
      setting.num_micro_batches,
    )

  def time_text(self, time: float) -> str:
    """A step's time, absolute or relative."""
    return format_seconds(time) if self.absolute else f'{time:.3f}'

  def verdict(self) -> str:
    """The recommendation with its reason, and what times mean."""
    lines = []
    if len(self.forecasts) == 1 and self.chosen is not None:
      pass
    elif self.chosen is None:
      least = self.shown
      lines.append(
        f'None of these fits. {least.setting} needs the least: '
        f'{format_bytes(least.fullest)} on the fullest device.'
      )
    else:
      chosen = self.chosen
      setting = chosen.setting
      lines.append(
        f'Recommended: schedule={setting.schedule}, num_micro_batches='
        f'{setting.num_micro_batches}, recompute={setting.recompute}. '
        + recommend.reason(chosen, self.forecasts)
      )
    setting = self.shown.setting
    if self.workload.micro_batch(setting.num_micro_batches) == 1:
      lines.append(
        'A micro-batch is 1 example, so batch norm, if there is any, '
        'normalises it by itself. --min_examples=2 leaves such settings out.'
      )
    if not self.absolute:
      lines.append(
        'Times are relative: 1 is a step on one device without recomputation. '
        'With --device_speed they are seconds.'
      )
    return '\n'.join(lines)


def make_plan(
  workload: Workload,
  forecasts: Sequence[Forecast],
  device_memory: int | None,
  *,
  absolute: bool,
  show_all: bool = False,
) -> Plan:
  """A plan with its recommendation.

  Args:
    workload: The model.
    forecasts: What each way to run it takes, on the same devices.
    device_memory: Bytes that a device may hold; None for no limit.
    absolute: Whether times are in seconds.
    show_all: Whether ways that do not fit are in the table.
  """
  return Plan(
    workload,
    tuple(forecasts),
    recommend.best(forecasts),
    device_memory,
    absolute,
    show_all,
  )
