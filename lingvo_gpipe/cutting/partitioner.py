# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a sequence of layers into cells as well as it can be cut."""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import fit, memory_model, step_time
from lingvo_gpipe.cutting.best_cut import spec_cut
from lingvo_gpipe.cutting.cost_model import LayerCost, Number
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  PipelineSpec,
  least_largest_cost,
)
from lingvo_gpipe.cutting.cut_search import SQUARED_COST, CutSearch
from lingvo_gpipe.cutting.memory_errors import (
  PartitionError,
  does_not_fit,
  fits,
  least_memory_splits,
)
from lingvo_gpipe.cutting.memory_model import CellBytes
from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.schedules import OrderProblem, limits_of_1f1b

__all__ = [
  'LayerCost',
  'Partition',
  'PartitionCell',
  'PartitionError',
  'PipelineSpec',
  'Skip',
  'balance',
  'find',
  'fits',
  'least_memory_splits',
  'partition',
]


@dataclasses.dataclass(frozen=True)
class PartitionCell:
  """One cell of a partition: layers `start` to `end` - 1.

  Attributes:
    cost: The sum of their times, recomputation included.
    crossing_bytes: Bytes of a micro-batch that reach it from another device.
  """

  index: int
  device: int
  start: int
  end: int
  layers: tuple[LayerCost, ...]
  cost: Fraction
  memory: CellBytes
  crossing_bytes: int


@dataclasses.dataclass(frozen=True)
class Partition:
  layers: tuple[LayerCost, ...]
  spec: PipelineSpec
  cells: tuple[PartitionCell, ...]

  @property
  def first_backward(self) -> int:
    """The first cell with backward tasks; K if none has any."""
    return step_time.first_backward([cell.layers for cell in self.cells])

  @property
  def sizes(self) -> tuple[int, ...]:
    return tuple(cell.end - cell.start for cell in self.cells)

  @property
  def splits(self) -> tuple[int, ...]:
    """The first layer of each cell but the first: K - 1 cut points."""
    return tuple(cell.start for cell in self.cells[1:])

  @property
  def crossing_bytes(self) -> int:
    """Bytes of a micro-batch that cross between devices on its way forward."""
    return sum(cell.crossing_bytes for cell in self.cells)

  @functools.cached_property
  def device_memory(self) -> tuple[int, ...]:
    """Bytes that each device needs."""
    return memory_model.device_bytes(
      [cell.memory for cell in self.cells], self.spec.cell_devices
    )

  @property
  def imbalance(self) -> Fraction:
    """The largest cell's cost over the mean; 1 if no layer costs anything."""
    costs = [cell.cost for cell in self.cells]
    total = sum(costs, Fraction(0))
    return max(costs) * len(costs) / total if total else Fraction(1)

  def order_problem(
    self,
    cell_devices: Sequence[int],
    num_micro_batches: int,
    first_backward: int,
  ) -> OrderProblem:
    """What the schedule 'auto' orders the tasks by: no more stash than 1F1B."""
    times = []
    for cell in self.cells:
      forward = float(sum(x.forward for x in cell.layers))
      of_weights = float(sum(x.weight_gradient for x in cell.layers))
      # With recomputation, where there is any.
      backward = max(float(cell.cost) - forward - of_weights, 0.0)
      times.append((forward, backward, of_weights))
    forwards, backwards, weight_gradients = zip(*times, strict=True)
    return OrderProblem(
      tuple(cell_devices),
      num_micro_batches,
      forwards,
      backwards,
      weight_gradients,
      limits=limits_of_1f1b(cell_devices, num_micro_batches, first_backward),
      first_backward=first_backward,
    )


def partition(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None = None,
) -> Partition:
  """Cuts layers into the cells of a pipeline, exactly.

  The best cut is the one with the least

  1. cost of the largest cell, among cuts that fit the devices' memory,
  2. bytes of a micro-batch that cross between devices, skips included,
  3. memory of the largest cell, each cell taken by itself,
  4. sum of squared costs of the cells (in units of about 2**-29 of the total),

  a later one deciding only between cuts that are equal in all earlier ones.
  Where cells share devices it may not be found, see `best_cut`, nor where a
  cell recomputes layers before the first that is trained: their forward pass
  counts once. Under recompute='fit' the choice of what is kept is part of the
  cut, and only the first counts; see `fit`.

  Args:
    layers: The layers, with bytes for the pipeline's micro-batch.
    splits: The first layer of each cell but the first, if the cut is given; it
      is then only described, and checked against the memory limit.

  Raises PartitionError if there are more cells than layers; or `splits` are not
  K - 1 ascending layers; or no cut (not that of `splits`) fits the devices'
  memory, with which cell is too large, by how much, and what would fit.
  """
  found = find(layers, spec, splits)
  if found is not None:
    return found
  if spec.recompute == schedules.FIT:
    spec = dataclasses.replace(spec, recompute='always')
  raise does_not_fit(layers, spec, splits)


def find(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None = None,
) -> Partition | None:
  """As `partition`, but None where it raises that memory is too small."""
  _check_sizes(layers, spec, splits)
  if spec.recompute == schedules.FIT:
    return _fitted(layers, spec, splits)
  positions = (0, *(splits or ()), len(layers))
  if splits is None:
    positions = spec_cut(layers, spec) or ()
  if not positions:
    return None
  found = Partition(tuple(layers), spec, _cells(layers, spec, positions))
  limit = spec.device_memory
  is_too_large = limit is not None and max(found.device_memory) > limit
  return None if is_too_large else found


def _fitted(
  layers: Sequence[LayerCost], spec: PipelineSpec, splits: Sequence[int] | None
) -> Partition | None:
  """The cut and the choice of what is kept that have the shortest step."""
  if spec.device_memory is None:
    raise PartitionError(
      f"recompute is '{schedules.FIT}', which keeps as many activations as "
      'device_memory has room for, but device_memory is not set. Set it, or '
      f'use a policy, one of {schedules.RECOMPUTE_POLICIES}.'
    )
  always = dataclasses.replace(spec, recompute='always')
  cuts = [
    find(layers, dataclasses.replace(always, kept=kept), cut)
    for cut, kept in fit.fits(layers, always, splits)
  ] or [find(layers, always, splits)]
  # Neither stands for a choice of layers: 'except_last' keeps all of one
  # micro-batch, and 'never' does not run layers again that nothing trains.
  for policy in ('except_last', 'never'):
    other = dataclasses.replace(spec, recompute=policy)
    cuts.append(find(layers, other, splits))
  best, least = None, math.inf
  for cut in filter(None, cuts):
    cells = [cell.layers for cell in cut.cells]
    # No step is shorter than what its busiest device takes.
    if step_time.busiest(cells, cut.spec) < least:
      time = step_time.step_time(cells, cut.spec)
      if time < least:
        best, least = cut, time
  return best


def _check_sizes(
  layers: Sequence[LayerCost], spec: PipelineSpec, splits: Sequence[int] | None
) -> None:
  if spec.num_cells > len(layers):
    raise PartitionError(
      f'{len(layers)} layers cannot be cut into {spec.num_cells} cells '
      f'({spec.num_devices} devices with {spec.cells_per_device} each): every '
      f'cell needs a layer. Use {len(layers)} cells or fewer.'
    )
  if splits is None:
    return
  ends = [0, *splits, len(layers)]
  if len(ends) != spec.num_cells + 1 or any(
    start >= end for start, end in itertools.pairwise(ends)
  ):
    raise PartitionError(
      f'splits is {list(splits)}; it must name the first layer of each of the '
      f'{spec.num_cells} cells but the first: {spec.num_cells - 1} ascending '
      f'numbers from 1 to {len(layers) - 1}.'
    )


def _cells(
  layers: Sequence[LayerCost], spec: PipelineSpec, positions: Sequence[int]
) -> tuple[PartitionCell, ...]:
  needs = spec.cell_memory(layers).of_cells(positions)
  return tuple(
    PartitionCell(
      index=k,
      device=spec.cell_devices[k],
      start=start,
      end=end,
      layers=tuple(layers[start:end]),
      cost=spec.cell_cost(layers[start:end], k),
      memory=needs[k],
      crossing_bytes=_crossing_bytes(layers, spec, positions, k),
    )
    for k, (start, end) in enumerate(itertools.pairwise(positions))
  )


def _crossing_bytes(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  positions: Sequence[int],
  k: int,
) -> int:
  devices, start, end = spec.cell_devices, positions[k], positions[k + 1]
  crossing = 0
  if k and devices[k - 1] != devices[k]:
    crossing = layers[start - 1].output_bytes
  for skip in spec.skips:
    source = bisect.bisect_right(positions, skip.from_layer) - 1
    is_taken = any(start <= layer < end for layer in skip.to_layers)
    if is_taken and devices[source] != devices[k]:
      crossing += skip.num_bytes
  return crossing


def balance(costs: Sequence[Number], num_cells: int) -> list[int]:
  """How many layers each cell gets, 1 or more, when only their costs matter.

  The largest cell's cost is as small as it can be; among the cuts with that,
  the sum of the squares of the cells' costs. If all costs are 0 every layer
  counts as 1. ValueError if a cost is negative or not finite, or there are more
  cells than layers.
  """
  if not 1 <= num_cells <= len(costs):
    raise ValueError(
      f'{len(costs)} layers cannot be cut into {num_cells} cells: there must '
      'be at least one cell, and at least one layer in each.'
    )
  problem = CutProblem(costs, num_cells)
  search = CutSearch(problem)
  cuts = search.best([SQUARED_COST], least_largest_cost(problem))
  assert cuts is not None
  return [int(size) for size in np.diff(cuts.positions)]
