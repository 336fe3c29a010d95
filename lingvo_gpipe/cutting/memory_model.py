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

- A stashed micro-batch keeps the cell's input: what the layer before it hands
  on, and what its layers take of earlier cells (skips). The backwards, one at a
  time on a device, make its activations anew.
- Under 'never' a stashed micro-batch is full: it keeps its activations, too,
  and nothing is made anew. Under 'except_last' the last one is.
- Where the backward pass is in two, a micro-batch counts in full until its W
  has run: what W reads of its activations, and of the gradients that B
  computed, is taken to be as large as all of its activations.
- Of layers that are kept where others are recomputed a stashed micro-batch has
  the activations, the values that they put for others, and the output of each
  that is followed by a recomputed one.
- A cell in which, and before which, nothing is trained keeps nothing of a
  micro-batch.
- The stashes of a device's cells need not be largest at the same moment: their
  sum is then an upper bound.
"""

import dataclasses
import itertools
from collections.abc import Container, Iterable, Sequence

import numpy as np

from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.cutting.skips import IntArray, Skip, SkipBytes, put_bytes

# Bytes stay below this.
_LARGEST_BYTES = 2**61


@dataclasses.dataclass(frozen=True)
class CellBytes:
  """What one cell needs, in bytes.

  Attributes:
    state: Weights, the sums of their gradients and the optimizer's slots.
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
  def transient(self) -> int:
    """What it needs on top of state and stash while its backwards run."""
    return self.activations + self.new_gradients

  @property
  def total(self) -> int:
    """What the cell needs on a device of its own."""
    return self.state + self.stash + self.transient


def device_bytes(
  cells: Sequence[CellBytes], cell_devices: Sequence[int]
) -> tuple[int, ...]:
  """What each device needs, in bytes; none is without a cell."""
  needs = []
  for device in range(max(cell_devices) + 1):
    own = [
      cell for cell, d in zip(cells, cell_devices, strict=True) if d == device
    ]
    held = sum(cell.state + cell.stash for cell in own)
    needs.append(held + max(cell.transient for cell in own))
  return tuple(needs)


class CellMemory:
  """What any run of layers needs as any of the cells of a pipeline.

  Attributes:
    floor_before: [N + 1], sums over layers: a cell of layers a to b - 1,
      whichever it is, needs at least floor_before[b] - floor_before[a] bytes.
    held_before: [N + 1], the same for what it adds to a device that it shares.
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
    skips: Sequence[Skip] = (),
    kept: Container[str] = (),
  ):
    """`stashed` and `handed` are as in `schedules.Counts`.

    The rest is as in `PipelineSpec`. ValueError if bytes are beyond 64 bits.
    """
    _check_size(layers, max(stashed), input_bytes, skips)
    self._first = cost_model.first_with_backward(layers)
    self._stashed = np.array(stashed, np.int64)
    waiting = np.array(handed or [0] * len(stashed), np.int64)
    # For each cell, the micro-batches that are full, and those made anew.
    self._full, self._anew = _activations(self._stashed, waiting, recompute)
    self._skips = SkipBytes(skips, len(layers)) if skips else None
    self._inputs = np.array(
      [input_bytes, *(layer.output_bytes for layer in layers)], np.int64
    )
    self._activations = _before(layer.activation_bytes for layer in layers)
    self._transient = _before(layer.transient_bytes for layer in layers)
    is_kept = [layer.name in kept for layer in layers]
    put = put_bytes(skips, len(layers)) if skips else [0] * len(layers)
    # What is kept of these, and what the others would keep.
    each = list(zip(layers, put, is_kept, strict=True))
    self._own = _before((x.activation_bytes + n) * k for x, n, k in each)
    self._others = _before(x.activation_bytes * (not k) for x, _, k in each)
    # [N]: of the layers before each, outputs from which others are recomputed.
    self._passed_on = _before(
      layer.output_bytes * (a and not b)
      for layer, (a, b) in zip(
        layers, itertools.pairwise(is_kept), strict=False
      )
    )
    self._state = _before(layer.state_bytes for layer in layers)
    self._gradients = _before(
      layer.gradient_sum_bytes if num_micro_batches > 1 else 0
      for layer in layers
    )
    count, run = int(self._full.min()), int((self._full + self._anew).min())
    if self._first:
      count, run = 0, min(run, 1)
    self.held_before: IntArray = self._state + self._activations * count
    self.floor_before: IntArray = (
      self._state + self._gradients + self._activations * run + self._transient
    )

  def input_bytes(self, starts: IntArray, ends: IntArray) -> IntArray:
    """What layers `starts` to `ends` - 1 are given as a cell, in bytes."""
    given: IntArray = self._inputs[starts]
    return given + self._skips.into(starts, ends) if self._skips else given

  def parts(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> tuple[IntArray, IntArray]:
    """What layers `starts` to `ends` - 1 need as cell `cell`, in bytes.

    First what a device needs for each of its cells, then what it needs for one
    at a time. The positions may have any shapes that broadcast.
    """
    state, stash, activations, gradients, _ = self._needs(cell, starts, ends)
    return state + stash, activations + gradients

  def _needs(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> tuple[IntArray, ...]:
    """The same as `CellBytes` has it."""
    own = self._own[ends] - self._own[starts]
    others = self._others[ends] - self._others[starts]
    passed_on = self._passed_on[ends - 1] - self._passed_on[starts]
    stash = self.input_bytes(starts, ends) + own + passed_on
    stash = stash * self._stashed[cell] + others * self._full[cell]
    anew = others * self._anew[cell]
    if self._first:
      goes_back = ends > self._first
      activations = self._activations[ends] - self._activations[starts]
      stash = np.where(goes_back, stash, 0)
      anew = np.where(goes_back, anew, activations)
    state, gradients, outputs = (
      before[ends] - before[starts]
      for before in (self._state, self._gradients, self._transient)
    )
    return state, stash, anew + outputs, gradients, outputs

  def of_cell(self, cell: int, start: int, end: int) -> CellBytes:
    needs = self._needs(cell, np.array(start), np.array(end))
    return CellBytes(*map(int, needs))

  def of_cells(self, positions: Sequence[int]) -> list[CellBytes]:
    """What each cell of a cut needs; see `cut_problem` for positions."""
    return [
      self.of_cell(k, start, end)
      for k, (start, end) in enumerate(itertools.pairwise(positions))
    ]


def _activations(
  stashed: IntArray, waiting: IntArray, recompute: str
) -> tuple[IntArray, IntArray]:
  """How many micro-batches of each cell are full, and are made anew."""
  anew = np.ones_like(stashed)
  if recompute == 'never':
    return stashed, anew * 0
  # Where a backward follows its forward at once, activations are not made anew
  # but kept, with the same need. What waits for its W has them in any case.
  if recompute == 'always':
    return waiting, anew
  # A cell that stashes one at a time never recomputes another beside the last.
  return np.minimum((stashed > 1) + waiting, stashed), anew


def _check_size(
  layers: Sequence[cost_model.LayerCost],
  stashed: int,
  input_bytes: int,
  skips: Sequence[Skip],
) -> None:
  most = input_bytes + sum(
    x.activation_bytes + x.transient_bytes + x.output_bytes for x in layers
  )
  most += sum(skip.num_bytes * len(skip.to_layers) for skip in skips)
  most = most * (1 + stashed) + 2 * sum(x.state_bytes for x in layers)
  if most > _LARGEST_BYTES:
    raise ValueError(f'{most} bytes are too many to count in 64 bits.')


def _before(values: Iterable[int]) -> IntArray:
  """Sums of the values before each position."""
  return np.array(cost_model.prefix_sums(values), np.int64)
