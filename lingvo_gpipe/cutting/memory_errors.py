# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why layers do not fit into devices' memory, and what would."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model, units
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  IntArray,
  earliest_start,
  furthest_end,
  least_largest_floor,
)
from lingvo_gpipe.cutting.cut_search import LARGEST_MEMORY, best_cuts
from lingvo_gpipe.cutting.pipeline_spec import (
  PipelineSpec,
  cell_memory,
  spec_problem,
)
from lingvo_gpipe.cutting.shared_device_search import SharedDeviceSearch

# If the micro-batch's size is not known it is counted in this many parts.
_PARTS = 1000
_BLOCK = 128

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class PartitionError(ValueError):
  """Layers that cannot be cut as asked."""


def does_not_fit(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  positions: Sequence[int] | None = None,
  is_proven: bool = True,
) -> PartitionError:
  """An error for layers that do not fit the memory limit.

  Args:
    layers: The layers.
    spec: What they were to be cut for; it has a memory limit.
    positions: The ends of the cells if the cut was given; otherwise the error
      describes the cut whose largest cell needs least.
    is_proven: Whether it is known that no cut fits.
  """
  memory = cell_memory(layers, spec)
  if positions is None:
    what = 'The layers do not fit, however they are cut.'
    if not is_proven:
      what = (
        'The layers do not fit in any cut that was tried (there are too many '
        'to try all while cells share devices).'
      )
    which = 'In the cut that needs the least,'
    positions = _least_memory_positions(spec_problem(layers, spec, memory))
  else:
    what = 'The layers do not fit with the given splits.'
    which = 'With them'
  lines = [
    f'{what} device_memory is {_exactly(_limit(spec))}. {which} '
    + _fullest_device(layers, spec, memory, positions)
  ]
  lines += _single_layers(layers, spec, memory)
  lines.append(_remedies(layers, spec))
  return PartitionError('\n'.join(lines))


def least_memory_splits(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> tuple[int, ...]:
  """The splits of the cut whose largest cell needs least memory."""
  problem = spec_problem(layers, spec, cell_memory(layers, spec))
  return _least_memory_positions(problem)[1:-1]


def _exactly(number: int) -> str:
  """For example '1.50 GiB (1610612736 bytes)'."""
  if number < 1024:
    return f'{number} bytes'
  return f'{units.format_bytes(number)} ({number} bytes)'


def _limit(spec: PipelineSpec) -> int:
  assert spec.device_memory is not None
  return spec.device_memory


def _least_memory_positions(problem: CutProblem) -> tuple[int, ...]:
  """The cut whose largest cell needs least."""
  bound = least_largest_floor(problem)
  while True:
    cuts = best_cuts(problem, [LARGEST_MEMORY], problem.total_cost, bound)
    if cuts is not None:
      return cuts.positions
    bound += bound // 4 + 1


def _fullest_device(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  memory: memory_model.CellMemory,
  positions: Sequence[int],
) -> str:
  """Says which device needs most under a cut, for what, and how much."""
  needs = [
    memory.of_cell(k, positions[k], positions[k + 1])
    for k in range(spec.num_cells)
  ]
  totals = [
    memory_model.device_bytes(needs[device :: spec.num_devices])
    for device in range(spec.num_devices)
  ]
  device = totals.index(max(totals))
  cells = range(device, spec.num_cells, spec.num_devices)
  stash = sum(needs[k].stash for k in cells)
  # Of a micro-batch: of the cell that needs most of it.
  largest = max((needs[k] for k in cells), key=lambda need: need.transient)
  state = sum(needs[k].state for k in cells) + largest.new_gradients
  held = ' and '.join(
    f'cell {k} ({_layers_text(layers, positions[k], positions[k + 1])})'
    for k in cells
  )
  return (
    f'device {device} with {held} needs {_exactly(totals[device])}: '
    f'{_exactly(state)} for weights, gradients and optimizer, '
    f'{_exactly(stash)} for the stash and '
    f'{_exactly(largest.activations)} for the activations of a '
    f'micro-batch. That is {_exactly(totals[device] - _limit(spec))} too '
    'much.'
  )


def _layers_text(layers: Sequence[LayerCost], start: int, end: int) -> str:
  if end - start == 1:
    return f'layer {layers[start].name!r}'
  return f'layers {layers[start].name!r} to {layers[end - 1].name!r}'


def _single_layers(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  memory: memory_model.CellMemory,
) -> list[str]:
  """Names layers that are too large by themselves, in whatever cell."""
  starts = np.arange(len(layers))
  least = np.min(
    [
      np.sum(memory.parts(k, starts, starts + 1), axis=0)
      for k in range(spec.num_cells)
    ],
    axis=0,
  )
  return [
    f'Layer {layers[i].name!r} alone needs {_exactly(int(least[i]))} or '
    f'more, {_exactly(int(least[i]) - _limit(spec))} too much.'
    for i in np.flatnonzero(least > _limit(spec))[:4]
  ]


def _remedies(layers: Sequence[LayerCost], spec: PipelineSpec) -> str:
  options = []
  num_devices = smallest_num_devices(layers, spec)
  if num_devices is not None:
    num_cells = num_devices * spec.cells_per_device
    options.append(
      f'with K = {num_cells} cells on {num_devices} devices (the smallest '
      f'number; now {spec.num_devices} devices)'
    )
  size = largest_micro_batch(layers, spec)
  if size is not None and spec.micro_batch_size is not None:
    options.append(
      f'with micro-batches of {size} examples (the largest; now '
      f'{spec.micro_batch_size}) of the same mini-batch'
    )
  elif size is not None:
    options.append(
      f'with micro-batches of {size / _PARTS:.1%} of their present size (the '
      'largest) of the same mini-batch'
    )
  if not options:
    return (
      'Neither more devices nor smaller micro-batches would make it fit: split '
      'the largest layers, or use devices with more memory.'
    )
  return 'It would fit ' + ', or '.join(options) + '.'


def smallest_num_devices(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> int | None:
  """The fewest devices on which the layers fit; None if they never do.

  With one cell a device it is exact. With several it is a number that fits,
  found by bisection: none smaller fits if more devices never need more.
  """
  if spec.cells_per_device == 1:
    return _smallest_num_cells(layers, spec)

  def fits_on(num_devices: int) -> bool:
    return fits(layers, dataclasses.replace(spec, num_devices=num_devices))

  most = len(layers) // spec.cells_per_device
  step = 1
  while spec.num_devices + step < most and not fits_on(spec.num_devices + step):
    step *= 2
  high = min(spec.num_devices + step, most)
  if high <= spec.num_devices or not fits_on(high):
    return None
  return _least(spec.num_devices + step // 2, high, fits_on)


def largest_micro_batch(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> int | None:
  """The largest smaller micro-batch that makes the layers fit.

  The mini-batch stays, so there are more micro-batches. A layer's bytes for a
  micro-batch are taken to be proportional to its size.

  Returns:
    Examples in a micro-batch, or thousandths of its size if spec has no
    micro_batch_size; None if no size fits.
  """
  present = spec.micro_batch_size or _PARTS

  def misfits(size: int) -> bool:
    return not fits(layers, spec, size)

  if present == 1 or misfits(1):
    return None
  return _least(1, present, misfits) - 1


def _least(low: int, high: int, is_true: Callable[[int], bool]) -> int:
  """The least number in (low, high] of which it is true; it is of `high`."""
  low += 1
  while low < high:
    middle = (low + high) // 2
    if is_true(middle):
      high = middle
    else:
      low = middle + 1
  return high


def fits(
  layers: Sequence[LayerCost], spec: PipelineSpec, size: int | None = None
) -> bool:
  """Whether a cut is found that fits device_memory.

  Args:
    layers: The layers.
    spec: What they are cut for; it has a memory limit.
    size: Examples in a micro-batch, if not as many as spec says.
  """
  memory = cell_memory(layers, spec)
  if size is not None:
    present = spec.micro_batch_size or _PARTS
    mini_batch = spec.num_micro_batches * present
    num_micro_batches = -(-mini_batch // size)
    stashed = memory_model.peak_stash(
      spec.schedule, spec.cell_devices, num_micro_batches
    )
    memory = memory_model.CellMemory(
      layers,
      stashed,
      spec.recompute,
      num_micro_batches=num_micro_batches,
      input_bytes=spec.input_bytes,
      skips=spec.skips,
      size=size,
      reference_size=present,
      mini_batch_size=mini_batch,
    )
  problem = spec_problem(layers, spec, memory)
  limit = _limit(spec)
  if spec.cells_per_device > 1:
    search = SharedDeviceSearch(problem, spec.num_devices, limit)
    return search.any() is not None
  cuts = best_cuts(problem, [LARGEST_MEMORY], problem.total_cost, limit)
  return cuts is not None


def _smallest_num_cells(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> int | None:
  """The fewest cells, each on a device of its own, that fit.

  What a cell stashes depends on how many cells follow it, not on how many come
  before it. So one run from the last layer back, a cell a step, tries all
  numbers of cells at once.
  """
  num_layers, limit = len(layers), _limit(spec)
  stashed = schedules.in_flight_limits(
    spec.schedule, range(num_layers), spec.num_micro_batches
  )
  memory = memory_model.CellMemory(
    layers,
    stashed[::-1],
    spec.recompute,
    num_micro_batches=spec.num_micro_batches,
    input_bytes=spec.input_bytes,
    skips=spec.skips,
  )
  floor, most = memory.floor_before, limit * memory.divisor
  # From which positions the rest can be cut into the cells so far.
  is_start = np.zeros(num_layers + 1, np.bool_)
  is_start[num_layers] = True
  first = num_layers
  for cell in range(num_layers):
    first = earliest_start(floor, first, most)
    before = np.zeros_like(is_start)
    for low in range(first, num_layers - cell, _BLOCK):
      starts = np.arange(low, min(low + _BLOCK, num_layers - cell))
      ends = np.arange(low + 1, furthest_end(floor, int(starts[-1]), most) + 1)
      ends = ends[is_start[ends]]
      if len(ends):
        before[starts] = _any_cell_fits(memory, cell, starts, ends, limit)
    is_start = before
    if is_start[0]:
      return cell + 1
    if not is_start.any():
      return None
  return None


def _any_cell_fits(
  memory: memory_model.CellMemory,
  cell: int,
  starts: IntArray,
  ends: IntArray,
  limit: int,
) -> BoolArray:
  """For each start, whether a cell from it to one of the ends fits."""
  held, transient = memory.parts(cell, starts[:, None], ends[None, :])
  is_cell = starts[:, None] < ends[None, :]
  any_fits: BoolArray
  any_fits = np.any(is_cell & (held + transient <= limit), axis=1)
  return any_fits
