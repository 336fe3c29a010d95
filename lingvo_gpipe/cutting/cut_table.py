# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cut makes of a model: one row a cell, as data and as text."""

import dataclasses
import functools
import os
from collections.abc import Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import step_time, text_table
from lingvo_gpipe.cutting.partitioner import Partition, PartitionCell
from lingvo_gpipe.cutting.units import format_bytes

# An imbalance above 1 + this, or a bubble above it, gets a warning.
_WARN_ABOVE = 0.2


@dataclasses.dataclass(frozen=True)
class CutRow:
  """A cell, its device's name, and its share of the cost of all cells."""

  cell: PartitionCell
  device: str
  share: float

  @property
  def parameters(self) -> int:
    return sum(layer.parameters for layer in self.cell.layers)

  @property
  def layers_text(self) -> str:
    """'a', 'a, b' or 'a .. z (26)'."""
    names = [layer.name for layer in self.cell.layers]
    if len(names) <= 2:
      return ', '.join(names)
    return f'{names[0]} .. {names[-1]} ({len(names)})'

  @property
  def sizes(self) -> list[int]:
    """Bytes of weights, gradients, slots, stash, activations and boundary.

    Those of micro-batches are 0 if shapes are not known.
    """
    weights = sum(layer.weight_bytes for layer in self.cell.layers)
    slots = sum(layer.optimizer_bytes for layer in self.cell.layers)
    memory = self.cell.memory
    # Of gradients the sums and, with several micro-batches, the newest.
    gradients = memory.state + memory.new_gradients - weights - slots
    of_micro_batches = memory.stash, memory.activations
    crossing = self.cell.crossing_bytes
    return [weights, gradients, slots, *of_micro_batches, crossing]


@dataclasses.dataclass(frozen=True)
class CutTable:
  """All cells; `basis` says what costs are, `devices` where each cell is."""

  partition: Partition
  basis: str
  devices: Sequence[str]
  splits_given: bool = False

  @functools.cached_property
  def rows(self) -> tuple[CutRow, ...]:
    cells = self.partition.cells
    total = float(sum(cell.cost for cell in cells)) or 1.0
    return tuple(
      CutRow(cell, device, float(cell.cost) / total)
      for cell, device in zip(cells, self.devices, strict=True)
    )

  @property
  def imbalance(self) -> float:
    """The largest cell's cost over the mean."""
    return float(self.partition.imbalance)

  @functools.cached_property
  def bubble(self) -> float:
    spec, schedule = self.partition.spec, self._schedule
    times = step_time.task_times(self._layers, spec, schedule, 1.0)
    return float(schedules.simulate(schedule, times).bubble)

  @functools.cached_property
  def even_bubble(self) -> float:
    """The same if all cells cost the same."""
    return float(schedules.simulate(self._schedule).bubble)

  @property
  def _layers(self) -> step_time.Cells:
    return [cell.layers for cell in self.partition.cells]

  @functools.cached_property
  def _schedule(self) -> schedules.Schedule:
    return step_time.schedule_of(self._layers, self.partition.spec)

  def warnings(self) -> list[str]:
    """What is above 20%, imbalance or bubble, and what to do about it."""
    warnings = []
    if self.imbalance > 1 + _WARN_ABOVE:
      warnings.append(
        f'The largest cell costs {self.imbalance:.2f} times the mean. '
        + self._imbalance_remedy()
      )
    if self.even_bubble > _WARN_ABOVE:
      least = 4 * (len(self.rows) - 1)
      warnings.append(
        f'{self.bubble:.0%} of the device time is bubble. With '
        f'{len(self.rows)} cells, set num_micro_batches to {least} or more '
        f'(now {self.partition.spec.num_micro_batches}), or use fewer cells.'
      )
    elif self.bubble > _WARN_ABOVE and self.imbalance <= 1 + _WARN_ABOVE:
      warnings.append(
        f'{self.bubble:.0%} of the device time is bubble; with equal cells it '
        f'would be {self.even_bubble:.0%}. Use finer layers, or more '
        'micro-batches.'
      )
    return warnings

  def _imbalance_remedy(self) -> str:
    largest = max(self.rows, key=lambda row: row.share)
    if self.splits_given:
      return 'Leave splits unset to get the best cut.'
    if len(largest.cell.layers) == 1:
      return (
        f'Cell {largest.cell.index} is the layer {largest.layers_text!r} '
        'alone: split that into several layers, or use fewer cells.'
      )
    if self.basis == 'params':
      return (
        'Parameters say little about time: give input_shapes, so that FLOPs '
        'can be counted.'
      )
    return 'Use finer layers, or fewer cells.'

  def to_text(self) -> str:
    spec = self.partition.spec
    header = ['cell', 'device', 'layers', f'cost ({self.basis})', 'parameters']
    header += ['weights', 'gradients', 'optimizer', 'stash', 'activations']
    header += ['boundary']
    rows = [
      [
        str(row.cell.index),
        device,
        row.layers_text,
        f'{row.share:.1%}',
        f'{row.parameters:,}',
        *(format_bytes(size, 1) for size in row.sizes),
      ]
      for row, device in zip(self.rows, _short_names(self.devices), strict=True)
    ]
    if spec.kept:
      header.append('kept')
      for row, cell in zip(rows, self.partition.cells, strict=True):
        count = sum(layer.name in spec.kept for layer in cell.layers)
        row.append(f'{count} of {len(cell.layers)}')
    kept = f' except {len(spec.kept)} kept layers' if spec.kept else ''
    lines = [
      text_table.table(header, rows),
      f'{spec.schedule}, M = {spec.num_micro_batches}, recompute '
      f'{spec.recompute}{kept}: imbalance {self.imbalance:.2f} (largest cell '
      f'over mean), bubble {self.bubble:.1%} (with equal cells '
      f'{self.even_bubble:.1%}), largest device '
      f'{format_bytes(max(self.partition.device_memory), 1)}.',
    ]
    lines += [f'Warning: {warning}' for warning in self.warnings()]
    return '\n'.join(lines)


def _short_names(devices: Sequence[str]) -> list[str]:
  """Device names without the leading parts that they share."""
  shared = os.path.commonpath([os.path.dirname(device) for device in devices])
  return [device.removeprefix(shared).removeprefix('/') for device in devices]
