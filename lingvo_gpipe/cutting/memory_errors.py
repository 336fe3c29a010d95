# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why layers do not fit into devices' memory, and what would."""

import bisect
import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import best_cut, units
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import CutProblem, PipelineSpec
from lingvo_gpipe.cutting.memory_model import device_bytes

# So many times as many micro-batches are tried if their size is not known.
_MOST_TIMES = 100
_BLOCK = 128


class PartitionError(ValueError):
  """Layers that cannot be cut as asked."""


def does_not_fit(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None = None,
) -> PartitionError:
  """Without splits it describes the cut whose largest cell needs least."""
  what, which = ' with the given splits.', 'With these splits,'
  if splits is None:
    what, which = ', however they are cut.', 'In the cut that needs the least,'
    splits = least_memory_splits(layers, spec)
    if spec.cells_per_device > 1:
      what = (
        ' in any cut that was tried. (Where cells share devices there are too '
        'many cuts to try them all.)'
      )
  return PartitionError(
    '\n'.join(
      [
        f'The layers do not fit{what} device_memory is '
        f'{_exactly(_limit(spec))}. {which} '
        + _fullest_device(layers, spec, (0, *splits, len(layers))),
        *_single_layers(layers, spec),
        _remedies(layers, spec),
      ]
    )
  )


def least_memory_splits(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> tuple[int, ...]:
  return best_cut.least_memory_cut(CutProblem.of(layers, spec))[1:-1]


def fits(layers: Sequence[LayerCost], spec: PipelineSpec) -> bool:
  """Whether a cut is found that fits device_memory, which is not None."""
  return best_cut.any_cut_fits(CutProblem.of(layers, spec), _limit(spec))


def _exactly(number: int) -> str:
  """For example '1.50 GiB (1610612736 bytes)'."""
  if number < 1024:
    return f'{number} bytes'
  return f'{units.format_bytes(number)} ({number} bytes)'


def _limit(spec: PipelineSpec) -> int:
  assert spec.device_memory is not None
  return spec.device_memory


def _fullest_device(
  layers: Sequence[LayerCost], spec: PipelineSpec, positions: Sequence[int]
) -> str:
  needs = spec.cell_memory(layers).of_cells(positions)
  totals = device_bytes(needs, spec.cell_devices)
  device = totals.index(max(totals))
  cells = [k for k, d in enumerate(spec.cell_devices) if d == device]
  stash = sum(needs[k].stash for k in cells)
  # Of a micro-batch: of the cell that needs most of it.
  largest = max((needs[k] for k in cells), key=lambda need: need.transient)
  state = sum(needs[k].state for k in cells) + largest.new_gradients
  held = []
  for k in cells:
    names = [repr(layer.name) for layer in layers[slice(*positions[k : k + 2])]]
    text = f'layers {names[0]} to {names[-1]}'
    held.append(f'cell {k} ({text if names[1:] else f"layer {names[0]}"})')
  return (
    f'device {device} with {" and ".join(held)} needs '
    f'{_exactly(totals[device])}: {_exactly(state)} for weights, gradients and '
    f'optimizer, {_exactly(stash)} for the stash and '
    f'{_exactly(largest.activations)} for the activations of a micro-batch. '
    f'That is {_exactly(totals[device] - _limit(spec))} too much.'
  )


def _single_layers(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> list[str]:
  memory, starts = spec.cell_memory(layers), np.arange(len(layers))
  needs = [
    np.sum(memory.parts(k, starts, starts + 1), axis=0)
    for k in range(spec.num_cells)
  ]
  least = np.min(needs, axis=0)
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
  finer = fewest_micro_batches(layers, spec)
  if finer is not None and finer.micro_batch_size is not None:
    options.append(
      f'with micro-batches of {finer.micro_batch_size} examples (the largest '
      f'that fit; now {spec.micro_batch_size})'
    )
  elif finer is not None:
    options.append(
      f'with the same mini-batch in {finer.num_micro_batches} micro-batches '
      f'(the smallest number; now {spec.num_micro_batches})'
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
  if spec.cells_per_device == 1 and spec.schedule in schedules.PLAIN_NAMES:
    return _smallest_num_cells(layers, spec)
  most = len(layers) // spec.cells_per_device
  numbers = range(spec.num_devices + 1, most + 1)

  def fits_on(num_devices: int) -> bool:
    return fits(layers, dataclasses.replace(spec, num_devices=num_devices))

  if spec.cells_per_device == 1:
    # A cell may stash more, the more devices there are.
    return next(filter(fits_on, numbers), None)
  place = bisect.bisect_left(numbers, True, key=fits_on)
  return numbers[place] if place < len(numbers) else None


def fewest_micro_batches(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> PipelineSpec | None:
  """The spec with the fewest micro-batches that make layers fit, or None."""
  present, size = spec.num_micro_batches, spec.micro_batch_size
  numbers = list(range(present + 1, present * (size or _MOST_TIMES) + 1))
  if size is not None:
    numbers = [n for n in numbers if not present * size % n]

  def fits_in(num_micro_batches: int) -> bool:
    share = Fraction(present, num_micro_batches)
    return fits(
      [layer.scaled(share) for layer in layers],
      spec.with_micro_batches(num_micro_batches),
    )

  place = bisect.bisect_left(numbers, True, key=fits_in)
  if place == len(numbers):
    return None
  return spec.with_micro_batches(numbers[place])


def _smallest_num_cells(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> int | None:
  """The fewest cells, each on a device of its own, that fit.

  What a cell stashes depends only on how many cells follow it. So one run from
  the last layer back, a cell a step, tries all numbers of cells at once.
  """
  num_layers, limit = len(layers), _limit(spec)
  most = dataclasses.replace(spec, num_devices=num_layers)
  memory = most.cell_memory(layers)
  floor = memory.floor_before
  # The positions from which the rest can be cut into the cells so far.
  ends = np.array([num_layers])
  for cell in reversed(range(num_layers)):
    first = int(np.searchsorted(floor, floor[ends[0]] - limit))
    starts = np.arange(first, ends[-1])
    is_start = np.zeros(len(starts), np.bool_)
    for block in np.array_split(ends, 1 + len(ends) // _BLOCK):
      held, transient = memory.parts(cell, starts[:, None], block)
      fits = (held + transient <= limit) & (starts[:, None] < block)
      is_start |= fits.any(axis=1)
    ends = starts[is_start]
    if not len(ends):
      return None
    if ends[0] == 0:
      return num_layers - cell
  return None
