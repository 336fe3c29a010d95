# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much memory cells and devices need.

A device that holds some cells needs, at its peak,

```
  weights + gradients + optimizer slots            of all its layers
+ stash: the most micro-batches it stashes, times
  what it keeps of each                            of all its cells
+ one micro-batch's activations, outputs that nothing
  keeps and, if there are several, its gradients   of its largest cell
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

Where the backward pass is in two, a micro-batch counts in full until its W has
run: what W reads of its activations, and of the gradients that B computed, is
taken to be as large as all of its activations. So under recomputation each
micro-batch that waits for its W adds its activations.

Layers may be kept where others are recomputed: a stashed micro-batch then keeps
their activations, the values that they put for others, and the output of each
that is followed by a recomputed one.

Where a device holds several cells their stashes need not be largest at the
same moment: the sum is then an upper bound.
"""

import dataclasses
import itertools
from collections.abc import Container, Iterable, Sequence

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.cutting import skips as skips_lib
from lingvo_gpipe.cutting.skips import IntArray
from lingvo_gpipe.schedules import stash

# Bytes stay below this.
_LARGEST_BYTES = 2**61
# Schedules of more cells times micro-batches are not built to count a stash.
_MAX_COUNTED = 100_000


@dataclasses.dataclass(frozen=True)
class CellBytes:
  """What one cell needs, in bytes.

  Attributes:
    state: Its weights, the sums of their gradients and the optimizer's slots.
    stash: What it keeps of the most micro-batches that it stashes at once.
    activations: What one micro-batch needs on top while its tasks run.
    new_gradients: The weights' gradients of one micro-batch, before they are
      added to the sums; 0 if there is only one micro-batch.
    outputs: Of `activations`, the outputs that are not kept after a task.
  """

  state: int
  stash: int
  activations: int
  new_gradients: int = 0
  outputs: int = 0

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


def device_bytes(
  cells: Sequence[CellBytes], cell_devices: Sequence[int]
) -> tuple[int, ...]:
  """What each device needs, in bytes.

  Args:
    cells: What each cell needs.
    cell_devices: The device of each; none is without a cell.
  """
  needs = []
  for device in range(max(cell_devices) + 1):
    own = [
      cell for cell, d in zip(cells, cell_devices, strict=True) if d == device
    ]
    held = sum(cell.held for cell in own)
    needs.append(held + max(cell.transient for cell in own))
  return tuple(needs)


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
    schedules.counted(schedule, cell_devices, num_micro_batches)
  )


def peak_handed(
  schedule: str, cell_devices: Sequence[int], num_micro_batches: int
) -> tuple[int, ...]:
  """The most micro-batches of each cell that wait for their W beside a task.

  The arguments are those of `peak_stash`. Under 'auto', and where a schedule is
  too long to be counted in, it is one less than what the cell stashes: an upper
  bound.
  """
  num_cells = len(cell_devices)
  is_long = num_cells * num_micro_batches > _MAX_COUNTED
  if schedule in schedules.WHOLE_NAMES:
    return (0,) * num_cells
  if schedule == 'auto' or is_long:
    stashed = peak_stash(schedule, cell_devices, num_micro_batches)
    return tuple(n - 1 for n in stashed)
  return stash.peak_handed(
    schedules.counted(schedule, cell_devices, num_micro_batches)
  )


class CellMemory:
  """What any run of layers needs as any of the cells of a pipeline.

  Attributes:
    has_skips: Whether layers take values of earlier ones by name.
    floor_before: [N + 1], sums over layers that a cell's memory cannot be
      below: a cell of layers a to b - 1, whichever cell it is, needs at least
      floor_before[b] - floor_before[a] bytes on a device of its own.
    held_before: [N + 1], the same for what a cell adds to a device that it
      shares.
  """

  def __init__(
    self,
    layers: Sequence[cost_model.LayerCost],
    stashed: Sequence[int],
    recompute: str,
    *,
    handed: Sequence[int] = (),
    num_micro_batches: int = 1,
    input_bytes: int = 0,
    skips: Sequence[skips_lib.Skip] = (),
    kept: Container[str] = (),
  ):
    """Prepares sums.

    Args:
      layers: The layers.
      stashed: For each cell, the most micro-batches it stashes.
      recompute: A recompute policy.
      handed: For each cell, the most micro-batches that wait for their W while
        a task of another runs; none by default.
      num_micro_batches: M; with more than one, gradients are summed.
      input_bytes: Bytes of the first layer's input, for one micro-batch.
      skips: Values that layers take of earlier ones.
      kept: Names of layers that are not recomputed, under 'always'.

    Raises:
      ValueError: The policy is unknown, or bytes are too many for 64 bits.
    """
    schedules.check_recompute(recompute)
    self._first = cost_model.first_with_backward(layers)
    self._stashed = np.array(stashed, np.int64)
    waiting = np.array(handed or [0] * len(stashed), np.int64)
    self._kept, self._made = _activations(self._stashed, waiting, recompute)
    self.has_skips = bool(skips)
    self._skips = skips_lib.SkipBytes(skips, len(layers)) if skips else None
    self._inputs = np.array(
      [input_bytes, *(layer.output_bytes for layer in layers)], np.int64
    )
    self._activations = _before(layer.activation_bytes for layer in layers)
    self._transient = _before(layer.transient_bytes for layer in layers)
    own = [layer.name in kept for layer in layers]
    self._own = _before(
      layer.activation_bytes * k for layer, k in zip(layers, own, strict=True)
    )
    # [N]: of the layers before each, outputs from which others are recomputed.
    self._passed_on = _before(
      layer.output_bytes * (a and not b)
      for layer, (a, b) in zip(layers, itertools.pairwise(own), strict=False)
    )
    put = [0] * len(layers)
    if skips:
      put = skips_lib.put_bytes(skips, len(layers))
    self._put = _before(n * k for n, k in zip(put, own, strict=True))
    self._state = _before(layer.state_bytes for layer in layers)
    self._gradients = _before(
      layer.gradient_sum_bytes if num_micro_batches > 1 else 0
      for layer in layers
    )
    most = int(self._activations[-1] + self._transient[-1])
    most += int(self._inputs.max())
    most = (most + (self._skips.total if self._skips else 0)) * (
      1 + int(self._stashed.max())
    )
    if most + 2 * int(self._state[-1]) > _LARGEST_BYTES:
      raise ValueError(f'{most} bytes are too many to count in 64 bits.')
    count, run = int(self._kept.min()), int((self._kept + self._made).min())
    if self._first:
      count, run = 0, min(run, 1)
    self.held_before: IntArray = self._state + self._activations * count
    self.floor_before: IntArray = (
      self._state + self._gradients + self._activations * run + self._transient
    )

  def input_bytes(self, starts: IntArray, ends: IntArray) -> IntArray:
    """What layers `starts` to `ends` - 1 are given as a cell, in bytes."""
    given: IntArray = self._inputs[starts]
    if self._skips is None:
      return given
    return given + self._skips.into(starts, ends)

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
    activations = self._activations[ends] - self._activations[starts]
    state = self._state[ends] - self._state[starts]
    gradients = self._gradients[ends] - self._gradients[starts]
    own = self._own[ends] - self._own[starts]
    passed_on = self._passed_on[ends - 1] - self._passed_on[starts]
    put = self._put[ends] - self._put[starts]
    stash = self.input_bytes(starts, ends) + own + passed_on + put
    stash = stash * self._stashed[cell]
    others = activations - own
    stash = stash + others * self._kept[cell]
    made = others * self._made[cell]
    if self._first:
      goes_back = ends > self._first
      stash = np.where(goes_back, stash, 0)
      made = np.where(goes_back, made, activations)
    outputs = self._transient[ends] - self._transient[starts]
    return state + stash, made + outputs + gradients

  def of_cell(self, cell: int, start: int, end: int) -> CellBytes:
    """What layers `start` to `end` - 1 need as cell `cell`."""
    held, transient = self.parts(cell, np.array(start), np.array(end))
    state, gradients, outputs = (
      int(before[end] - before[start])
      for before in (self._state, self._gradients, self._transient)
    )
    activations = int(transient) - gradients
    return CellBytes(state, int(held) - state, activations, gradients, outputs)

  def of_cells(self, positions: Sequence[int]) -> list[CellBytes]:
    """What each cell of a cut needs; see `cut_problem` for positions."""
    return [
      self.of_cell(k, start, end)
      for k, (start, end) in enumerate(itertools.pairwise(positions))
    ]


def _activations(
  stashed: IntArray, waiting: IntArray, recompute: str
) -> tuple[IntArray, IntArray]:
  """Of how many micro-batches each cell keeps, and makes anew, activations."""
  zeros = np.zeros_like(stashed)
  if recompute == 'never':
    return stashed, zeros
  # Where a micro-batch's backward follows its forward at once, its activations
  # are kept and not made anew: there is one such at a time, with the same need.
  # A micro-batch that waits for its W has its activations, anew or not.
  if recompute == 'always':
    return waiting, zeros + 1
  # A cell that stashes one micro-batch at a time never recomputes another
  # beside the last.
  kept = np.minimum((stashed > 1).astype(np.int64) + waiting, stashed)
  return kept, zeros + 1


def _before(values: Iterable[int]) -> IntArray:
  """Sums of the values before each position.

  Raises:
    ValueError: They are too many bytes for 64 bits.
  """
  sums = cost_model.prefix_sums(values)
  if sums[-1] > _LARGEST_BYTES:
    raise ValueError(f'{sums[-1]} bytes are too many to count in 64 bits.')
  return np.array(sums, np.int64)
