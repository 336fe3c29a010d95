# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much memory cells and devices need.

A device that holds some cells needs, at its peak,

```
  weights + gradients + optimizer slots            of all its layers
+ stash: the most micro-batches it stashes, times
  what it keeps of each                            of all its cells
+ one micro-batch's activations and, if there are
  several, its gradients                           of its largest cell
```

With several micro-batches the gradients of the newest are added to the sums of
those before: while a cell's backward runs both are there, so two slots make 20
bytes a weight of 4. With one micro-batch its gradients are the sums.

A cell in which, and before which, nothing is trained keeps nothing of a
micro-batch: it needs its weights, and one micro-batch's activations. Weights
that are not trained have neither gradients nor slots.

A cell's input is what the layer before it hands on, and what its layers take
by name of earlier cells (skips). Under recomputation a stashed micro-batch
keeps the cell's input, and the backwards, one at a time on a device, make its
activations anew. Without it ('never') a stashed micro-batch keeps its input and
its activations, and nothing is made anew. Under 'except_last' the last
micro-batch keeps its activations too; they come on top while others are
recomputed.

Where a device holds several cells their stashes need not be largest at the
same moment: the sum is then an upper bound.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.cutting import skips as skips_lib
from lingvo_gpipe.schedules import stash

IntArray: TypeAlias = npt.NDArray[np.int64]

# Bytes, and products on the way to them, stay below this.
_LARGEST_BYTES = 2**61
# Schedules of more cells times micro-batches are not built to count a stash.
_MAX_COUNTED = 100_000


@dataclasses.dataclass(frozen=True)
class CellBytes:
  """What one cell needs, in bytes.

  Attributes:
    state: Its weights, the sums of their gradients and the optimizer's slots.
    stash: What it keeps of the most micro-batches that it stashes at once.
    activations: What a micro-batch that is recomputed needs on top.
    new_gradients: The weights' gradients of one micro-batch, before they are
      added to the sums; 0 if there is only one micro-batch.
  """

  state: int
  stash: int
  activations: int
  new_gradients: int = 0

  @property
  def held(self) -> int:
    """What it needs all the time."""
    return self.state + self.stash

  @property
  def transient(self) -> int:
    """What it needs on top while one of its backwards runs."""
    return self.activations + self.new_gradients

  @property
  def total(self) -> int:
    """What the cell needs on a device of its own."""
    return self.held + self.transient


def device_bytes(cells: Sequence[CellBytes]) -> int:
  """What a device needs that holds these cells, in bytes."""
  held = sum(cell.held for cell in cells)
  return held + max((cell.transient for cell in cells), default=0)


def peak_stash(
  schedule: str, cell_devices: Sequence[int], num_micro_batches: int
) -> tuple[int, ...]:
  """The most micro-batches that each cell stashes under a schedule.

  Where cells share devices they are counted in the schedule, unless it is so
  long that this would take seconds: then the schedule's limits stand in, which
  are no smaller.

  Args:
    schedule: A schedule's name.
    cell_devices: The device of each cell.
    num_micro_batches: M.
  """
  limits = schedules.in_flight_limits(schedule, cell_devices, num_micro_batches)
  num_cells = len(cell_devices)
  if (
    len(set(cell_devices)) == num_cells
    or num_cells * num_micro_batches > _MAX_COUNTED
  ):
    return tuple(limits)
  return stash.peak_stash(
    schedules.make_schedule(schedule, cell_devices, num_micro_batches)
  )


class CellMemory:
  """What any run of layers needs as any of the cells of a pipeline."""

  def __init__(
    self,
    layers: Sequence[cost_model.LayerCost],
    stashed: Sequence[int],
    recompute: str,
    *,
    num_micro_batches: int = 1,
    input_bytes: int = 0,
    skips: Sequence[skips_lib.Skip] = (),
    size: int = 1,
    reference_size: int = 1,
    mini_batch_size: int | None = None,
  ):
    """Prepares sums.

    Args:
      layers: The layers, with bytes for micro-batches of `reference_size`.
      stashed: For each cell, the most micro-batches it stashes.
      recompute: A recompute policy.
      num_micro_batches: M; with more than one, gradients are summed.
      input_bytes: Bytes of the first layer's input, for a micro-batch of
        `reference_size`.
      skips: Values that layers take of earlier ones, likewise.
      size: How many examples a micro-batch has.
      reference_size: See `layers`.
      mini_batch_size: How many examples a mini-batch has, which bounds what a
        cell can stash; None where M whole micro-batches are meant.

    Raises:
      ValueError: The policy is unknown, or bytes are too many for 64 bits.
    """
    schedules.check_recompute(recompute)
    self._per = reference_size
    self._size = size
    self._first = cost_model.first_with_backward(layers)
    # For each cell, the examples whose input, or whose activations, it keeps
    # in its stash, and whose activations it makes anew.
    self._kept_inputs = np.array([n * size for n in stashed], np.int64)
    if mini_batch_size is not None:
      self._kept_inputs = np.minimum(self._kept_inputs, mini_batch_size)
    self._kept_activations, self._made = _activations(
      self._kept_inputs, np.array(stashed), size, recompute
    )
    examples = self._kept_inputs
    self._inputs = _int64(
      [input_bytes, *(layer.output_bytes for layer in layers)],
      int(examples.max()),
    )
    self._skips = skips_lib.SkipBytes(skips, len(layers)) if skips else None
    if self._skips is not None:
      _int64([int(self._inputs.max()) + self._skips.total], int(examples.max()))
    self._activations_before = _int64(
      cost_model.prefix_sums(layer.activation_bytes for layer in layers),
      int((self._kept_activations + self._made).max()),
    )
    self._state_before = _int64(
      cost_model.prefix_sums(layer.state_bytes for layer in layers),
      reference_size,
    )
    self._gradients_before = _int64(
      cost_model.prefix_sums(
        layer.gradient_sum_bytes if num_micro_batches > 1 else 0
        for layer in layers
      ),
      reference_size,
    )

  @property
  def divisor(self) -> int:
    """What `floor_before` and `held_floor_before` are multiples of."""
    return self._per

  @property
  def floor_before(self) -> IntArray:
    """[N + 1], sums over layers that a cell's memory cannot be below.

    A cell of layers a to b - 1, whichever cell it is, needs at least
    (floor_before[b] - floor_before[a]) / divisor bytes on a device of its own.
    """
    least = int((self._kept_activations + self._made).min())
    if self._first:
      least = min(least, self._size)
    weights = self._state_before + self._gradients_before
    return weights * self._per + self._activations_before * least

  @property
  def held_floor_before(self) -> IntArray:
    """[N + 1], the same for what a cell adds to a device that it shares."""
    least = 0 if self._first else int(self._kept_activations.min())
    return self._state_before * self._per + self._activations_before * least

  def parts(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> tuple[IntArray, IntArray]:
    """What layers `starts` to `ends` - 1 need as a cell, in bytes.

    Args:
      cell: Which cell they are.
      starts: Positions; any shape that broadcasts with `ends`.
      ends: Positions after the cells' last layers.

    Returns:
      (held, transient): what a device needs for each of its cells, and what it
      needs for one at a time.
    """
    activations = self._activations_before[ends]
    activations = activations - self._activations_before[starts]
    state = self._state_before[ends] - self._state_before[starts]
    gradients = self._gradients_before[ends] - self._gradients_before[starts]
    inputs = self._inputs[starts]
    if self._skips is not None:
      inputs = inputs + self._skips.into(starts, ends)
    stashed = inputs * self._kept_inputs[cell]
    if self._kept_activations[cell]:
      stashed = stashed + activations * self._kept_activations[cell]
    made = activations * self._made[cell]
    if self._first:
      goes_back = ends > self._first
      stashed = np.where(goes_back, stashed, 0)
      made = np.where(goes_back, made, activations * self._size)
    if self._per != 1:
      stashed = -(-stashed // self._per)
      made = -(-made // self._per)
    return state + stashed, made + gradients

  def of_cell(self, cell: int, start: int, end: int) -> CellBytes:
    """What layers `start` to `end` - 1 need as cell `cell`."""
    held, transient = self.parts(cell, np.array(start), np.array(end))
    state, gradients = (
      int(before[end] - before[start])
      for before in (self._state_before, self._gradients_before)
    )
    return CellBytes(
      state, int(held) - state, int(transient) - gradients, gradients
    )


def _activations(
  kept_inputs: IntArray, stashed: IntArray, size: int, recompute: str
) -> tuple[IntArray, IntArray]:
  """The examples whose activations each cell keeps, and makes anew."""
  none = np.zeros_like(kept_inputs)
  if recompute == 'never':
    return kept_inputs, none
  # Where a micro-batch's backward follows its forward at once, its activations
  # are kept and not made anew: there is one such at a time, with the same need.
  made = np.full_like(kept_inputs, size)
  if recompute == 'always':
    return none, made
  # A cell that stashes one micro-batch at a time never recomputes another
  # beside the last.
  return np.where(stashed > 1, size, none), made


def _int64(values: Sequence[int], factor: int) -> IntArray:
  """The values as an array, if they times the factor leave room for sums."""
  if max(values) * max(factor, 1) * 4 > _LARGEST_BYTES:
    raise ValueError(
      f'{max(values)} bytes, {factor} times, are too many to count in 64 bits.'
    )
  return np.array(values, np.int64)
