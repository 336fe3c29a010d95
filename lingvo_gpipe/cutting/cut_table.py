# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cut makes of a model: one row a cell, as data and as text."""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.partitioner import Partition
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
    activation_bytes: What a micro-batch that is recomputed needs on top.
    boundary_bytes: Bytes of a micro-batch that reach it from other devices.
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
    rows: The cells.
    basis: What a layer's cost is, such as 'flops'.
    schedule: The schedule's name.
    num_micro_batches: M.
    recompute: The recompute policy.
    device_bytes: For each device, what it needs.
    imbalance: The largest cell's cost over the mean.
    bubble: The share of device time without a task, with these costs.
    even_bubble: The same if all cells cost the same.
    splits_given: Whether the user chose the cut.
  """

  rows: tuple[CutRow, ...]
  basis: str
  schedule: str
  num_micro_batches: int
  recompute: str
  device_bytes: tuple[int, ...]
  imbalance: float
  bubble: float
  even_bubble: float
  splits_given: bool

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
        f'(now {self.num_micro_batches}), or use fewer cells.'
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
    devices = _short_names([row.device for row in self.rows])
    table = text_table.table(
      header,
      [
        self._cells(row, device)
        for row, device in zip(self.rows, devices, strict=True)
      ],
    )
    lines = [
      table,
      f'{self.schedule}, M = {self.num_micro_batches}, recompute '
      f'{self.recompute}: imbalance {self.imbalance:.2f} (largest cell over '
      f'mean), bubble {self.bubble:.1%} (with equal cells '
      f'{self.even_bubble:.1%}), largest device '
      f'{format_bytes(max(self.device_bytes), 1)}.',
    ]
    lines += [f'Warning: {warning}' for warning in self.warnings()]
    return '\n'.join(lines)

  def _cells(self, row: CutRow, device: str) -> list[str]:
    return [
      str(row.cell),
      device,
      row.layers_text,
      f'{row.share:.1%}',
      f'{row.parameters:,}',
      *(
        format_bytes(number, 1)
        for number in (
          row.weight_bytes,
          row.gradient_bytes,
          row.optimizer_bytes,
          row.stash_bytes,
          row.activation_bytes,
          row.boundary_bytes,
        )
      ),
    ]


def cut_table(
  partition: Partition,
  basis: str,
  devices: Sequence[str],
  *,
  splits_given: bool = False,
) -> CutTable:
  """Describes a partition.

  Args:
    partition: The partition.
    basis: What its costs are.
    devices: The name of each cell's device.
    splits_given: Whether the user chose the cut.
  """
  spec = partition.spec
  total = float(sum(cell.cost for cell in partition.cells)) or 1.0
  rows = []
  for cell, device in zip(partition.cells, devices, strict=True):
    layers = partition.layers[cell.start : cell.end]
    weights = sum(layer.weight_bytes for layer in layers)
    slots = sum(layer.optimizer_bytes for layer in layers)
    rows.append(
      CutRow(
        cell=cell.index,
        device=device,
        layers=tuple(layer.name for layer in layers),
        share=float(cell.cost) / total,
        parameters=sum(layer.parameters for layer in layers),
        weight_bytes=weights,
        gradient_bytes=cell.memory.state
        + cell.memory.new_gradients
        - weights
        - slots,
        optimizer_bytes=slots,
        stash_bytes=cell.memory.stash,
        activation_bytes=cell.memory.activations,
        boundary_bytes=cell.crossing_bytes,
      )
    )
  return CutTable(
    rows=tuple(rows),
    basis=basis,
    schedule=spec.schedule,
    num_micro_batches=spec.num_micro_batches,
    recompute=spec.recompute,
    device_bytes=partition.device_memory,
    imbalance=float(partition.imbalance),
    bubble=_bubble(partition),
    even_bubble=float(schedules.simulate(_schedule(partition)).bubble),
    splits_given=splits_given,
  )


def _schedule(partition: Partition) -> schedules.Schedule:
  spec = partition.spec
  return schedules.make_schedule(
    spec.schedule,
    spec.cell_devices,
    spec.num_micro_batches,
    first_backward=partition.first_backward,
  )


def _bubble(partition: Partition) -> float:
  """The bubble with the cells' own costs as durations."""
  durations: dict[tuple[TaskKind, int], float] = {}
  for cell in partition.cells:
    layers = partition.layers[cell.start : cell.end]
    forward = float(sum(layer.forward for layer in layers))
    durations[TaskKind.FORWARD, cell.index] = forward
    durations[TaskKind.BACKWARD, cell.index] = max(
      float(cell.cost) - forward, 0.0
    )
  return float(schedules.simulate(_schedule(partition), durations).bubble)


def _short_names(devices: Sequence[str]) -> list[str]:
  """Device names without the leading parts that they share."""
  parts = [device.removeprefix('/').split('/') for device in devices]
  least = min(map(len, parts)) - 1
  shared = 0
  while shared < least and len({part[shared] for part in parts}) == 1:
    shared += 1
  return ['/'.join(part[shared:]) for part in parts]
