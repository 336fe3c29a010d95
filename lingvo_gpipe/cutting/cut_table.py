# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cut makes of a model: one row a cell, as data and as text."""

import dataclasses
import functools
from collections.abc import Container, Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.partitioner import Partition, PartitionCell
from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.schedules import TaskKind

# An imbalance above 1 + this, or a bubble above it, gets a warning.
_WARN_ABOVE = 0.2


@dataclasses.dataclass(frozen=True)
class CutRow:
  """One cell. Bytes of stash and activations are 0 if shapes are not known.

  Attributes:
    cell: k.
    device: The device's name.
    layers: The names of its layers.
    share: Its share of the cost of all cells.
    parameters: How many numbers its weights are.
    weight_bytes: Bytes of the weights.
    gradient_bytes: Bytes of their gradients: the sums and, with several
      micro-batches, those of the newest.
    optimizer_bytes: Bytes of the optimizer's slots.
    stash_bytes: What it keeps of the most micro-batches that it stashes.
    activation_bytes: What one micro-batch needs on top while its tasks run.
    boundary_bytes: Bytes of a micro-batch that reach it from other devices.
    kept: How many of its layers are kept where others are recomputed.
  """

  cell: int
  device: str
  layers: tuple[str, ...]
  share: float
  parameters: int
  weight_bytes: int
  gradient_bytes: int
  optimizer_bytes: int
  stash_bytes: int
  activation_bytes: int
  boundary_bytes: int
  kept: int

  @property
  def layers_text(self) -> str:
    """'a', 'a, b' or 'a .. z (26)'."""
    if len(self.layers) <= 2:
      return ', '.join(self.layers)
    return f'{self.layers[0]} .. {self.layers[-1]} ({len(self.layers)})'


@dataclasses.dataclass(frozen=True)
class CutTable:
  """All cells of a pipeline, and how well they fit together.

  Attributes:
    partition: The cells.
    basis: What a layer's cost is, such as 'flops'.
    devices: The name of each cell's device.
    splits_given: Whether the user chose the cut.
  """

  partition: Partition
  basis: str
  devices: Sequence[str]
  splits_given: bool = False

  @functools.cached_property
  def rows(self) -> tuple[CutRow, ...]:
    """The cells."""
    total = float(sum(cell.cost for cell in self.partition.cells)) or 1.0
    return tuple(
      _row(cell, device, float(cell.cost) / total, self.partition.spec.kept)
      for cell, device in zip(self.partition.cells, self.devices, strict=True)
    )

  @property
  def imbalance(self) -> float:
    """The largest cell's cost over the mean."""
    return float(self.partition.imbalance)

  @functools.cached_property
  def bubble(self) -> float:
    """The share of device time without a task, with these costs."""
    durations: dict[tuple[TaskKind, int], float] = {}
    for cell in self.partition.cells:
      forward = float(sum(layer.forward for layer in cell.layers))
      backward = max(float(cell.cost) - forward, 0.0)
      durations[TaskKind.FORWARD, cell.index] = forward
      if self._schedule.is_split:
        weights = float(sum(layer.weight_gradient for layer in cell.layers))
        durations[TaskKind.WEIGHT_GRADIENT, cell.index] = weights
        backward = max(backward - weights, 0.0)
      durations[TaskKind.BACKWARD, cell.index] = backward
    return float(schedules.simulate(self._schedule, durations).bubble)

  @functools.cached_property
  def even_bubble(self) -> float:
    """The same if all cells cost the same."""
    return float(schedules.simulate(self._schedule).bubble)

  @functools.cached_property
  def _schedule(self) -> schedules.Schedule:
    spec = self.partition.spec
    return schedules.make_schedule(
      spec.schedule,
      spec.cell_devices,
      spec.num_micro_batches,
      first_backward=self.partition.first_backward,
    )

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
    if len(largest.layers) == 1:
      return (
        f'Cell {largest.cell} is the layer {largest.layers[0]!r} alone: split '
        'that into several layers, or use fewer cells.'
      )
    if self.basis == 'params':
      return (
        'Parameters say little about time: give input_shapes, so that FLOPs '
        'can be counted.'
      )
    return 'Use finer layers, or fewer cells.'

  def to_text(self) -> str:
    """The table, the figures below it, and the warnings."""
    header = ['cell', 'device', 'layers', f'cost ({self.basis})', 'parameters']
    header += ['weights', 'gradients', 'optimizer', 'stash', 'activations']
    header += ['boundary']
    spec = self.partition.spec
    if spec.kept:
      header.append('kept')
    devices = _short_names(self.devices)
    table = text_table.table(
      header,
      [
        [
          str(row.cell),
          device,
          row.layers_text,
          f'{row.share:.1%}',
          f'{row.parameters:,}',
          format_bytes(row.weight_bytes, 1),
          format_bytes(row.gradient_bytes, 1),
          format_bytes(row.optimizer_bytes, 1),
          format_bytes(row.stash_bytes, 1),
          format_bytes(row.activation_bytes, 1),
          format_bytes(row.boundary_bytes, 1),
          *([f'{row.kept} of {len(row.layers)}'] if spec.kept else ()),
        ]
        for row, device in zip(self.rows, devices, strict=True)
      ],
    )
    lines = [
      table,
      f'{spec.schedule}, M = {spec.num_micro_batches}, recompute '
      f'{spec.recompute_text}: imbalance {self.imbalance:.2f} (largest cell '
      f'over mean), bubble {self.bubble:.1%} (with equal cells '
      f'{self.even_bubble:.1%}), largest device '
      f'{format_bytes(max(self.partition.device_memory), 1)}.',
    ]
    lines += [f'Warning: {warning}' for warning in self.warnings()]
    return '\n'.join(lines)


def _row(
  cell: PartitionCell, device: str, share: float, kept: Container[str]
) -> CutRow:
  weights = sum(layer.weight_bytes for layer in cell.layers)
  slots = sum(layer.optimizer_bytes for layer in cell.layers)
  memory = cell.memory
  return CutRow(
    cell=cell.index,
    device=device,
    layers=tuple(layer.name for layer in cell.layers),
    share=share,
    parameters=sum(layer.parameters for layer in cell.layers),
    weight_bytes=weights,
    gradient_bytes=memory.state + memory.new_gradients - weights - slots,
    optimizer_bytes=slots,
    stash_bytes=memory.stash,
    activation_bytes=memory.activations,
    boundary_bytes=cell.crossing_bytes,
    kept=sum(layer.name in kept for layer in cell.layers),
  )


def _short_names(devices: Sequence[str]) -> list[str]:
  """Device names without the leading parts that they share."""
  parts = [device.removeprefix('/').split('/') for device in devices]
  least = min(map(len, parts)) - 1
  shared = 0
  while shared < least and len({part[shared] for part in parts}) == 1:
    shared += 1
  return ['/'.join(part[shared:]) for part in parts]
