# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""recompute='fit': cuts, and chooses the layers whose activations are kept.

A layer that is kept saves its forward pass in each backward pass, and costs its
activations for each micro-batch in flight. (1) Which of a cell's layers to keep
is a knapsack problem; see `kept_layers`.

A device that can keep more is a faster device, and should have more layers. So
(2) the cut is sought together with the choice: by bisection the least time T
for which there are cells of T or less. For one T, cell after cell, it is found
where cells can end:

```
  0 ....... [ ends of k cells ] ....... [ ends of k + 1 cells ] ....... N
                             a |-------- cell k, at most T -------->| b
```

A longer cell from the same start never takes less time. And of two starts with
the same input, the later one reaches at least as far.

Where devices have several cells the cut is sought first, for what was kept
last: nothing at first; and so on until nothing changes.

Of what is found so and the cuts by policies for all layers, the one with the
shortest step is taken.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from lingvo_gpipe.cutting import (
  cost_model,
  cut_search,
  kept_layers,
  step_time,
)
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import PipelineSpec, cell_memory
from lingvo_gpipe.cutting.memory_model import (
  device_bytes,
  peak_handed,
  peak_stash,
)
from lingvo_gpipe.cutting.skips import IntArray, put_bytes

# How often devices with several cells are cut anew.
_MOST_ROUNDS = 4


@dataclasses.dataclass(frozen=True)
class Fit:
  """A cut, and what is kept.

  Attributes:
    splits: The first layer of each cell but the first; None if no cut fits.
    kept: Names of the layers that are kept.
    recompute: The policy for the others.
    is_proven: Whether it is known that no other cut and choice has a largest
      cell that takes less time; or, without splits, that nothing fits.
  """

  splits: tuple[int, ...] | None
  kept: frozenset[str] = frozenset()
  recompute: str = 'always'
  is_proven: bool = False


def fit(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None = None,
) -> Fit:
  """Chooses a cut, and what is kept, for a short step.

  Args:
    layers: The layers.
    spec: What they are cut for; it has a memory limit.
    splits: The first layer of each cell but the first, if the cut is given.

  Raises:
    ValueError: Two layers have the same name.
  """
  assert spec.device_memory is not None
  names = [layer.name for layer in layers]
  if len(set(names)) < len(names):
    repeated = sorted({name for name in names if names.count(name) > 1})
    raise ValueError(
      f'Several layers are named {repeated}. What is kept goes by name: give '
      'each a name of its own.'
    )
  cells = _Cells(layers, spec)
  if splits is not None:
    # Of other cuts nothing is known.
    choices = [cells.choice((0, *splits, len(layers)), is_proven=False)]
  elif spec.cells_per_device > 1:
    choices = _on_shared_devices(layers, spec, cells)
  else:
    positions = _best_positions(cells)
    is_proven = not spec.skips
    choices = [Fit(None, is_proven=is_proven)]
    if positions is not None:
      choices = [cells.choice(positions, is_proven=is_proven)]
  # Neither stands for a choice of layers: 'except_last' keeps all of one
  # micro-batch, and 'never' does not run layers again that nothing trains.
  others = [
    other
    for policy in ('except_last', 'never')
    if (other := _by_policy(layers, spec, splits, policy)) is not None
  ]
  return _quickest(layers, spec, [*choices, *others])


def apply(spec: PipelineSpec, choice: Fit) -> PipelineSpec:
  """The spec, with the choice in place of FIT."""
  return dataclasses.replace(spec, recompute=choice.recompute, kept=choice.kept)


def _on_shared_devices(
  layers: Sequence[LayerCost], spec: PipelineSpec, cells: '_Cells'
) -> list[Fit]:
  """Cuts for devices with several cells; see above."""
  choices: list[Fit] = []
  own = dataclasses.replace(spec, recompute='always')
  for _ in range(_MOST_ROUNDS):
    positions = cut_search.spec_cut(layers, own).positions
    if positions is None:
      break
    choice = cells.choice(positions, is_proven=False)
    if choice in choices:
      break
    choices.append(choice)
    own = dataclasses.replace(own, kept=choice.kept)
  return choices or [Fit(None)]


def _quickest(
  layers: Sequence[LayerCost], spec: PipelineSpec, choices: Sequence[Fit]
) -> Fit:
  """The choice whose step takes least, the first of equal ones."""
  best, least = choices[0], math.inf
  for choice in choices:
    if choice.splits is None:
      continue
    ends = [0, *choice.splits, len(layers)]
    cells = [layers[a:b] for a, b in itertools.pairwise(ends)]
    own = apply(spec, choice)
    # No step is shorter than what its busiest device takes.
    if step_time.busiest(cells, own) >= least:
      continue
    time = step_time.step_time(cells, own)
    if time < least:
      best, least = choice, time
  return best


def _by_policy(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None,
  policy: str,
) -> Fit | None:
  """The best cut under a recompute policy; None if none fits."""
  spec = dataclasses.replace(spec, recompute=policy)
  assert spec.device_memory is not None
  if splits is None:
    positions = cut_search.spec_cut(layers, spec).positions
    if positions is None:
      return None
    splits = positions[1:-1]
  else:
    cells = cell_memory(layers, spec).of_cells((0, *splits, len(layers)))
    needs = device_bytes(cells, spec.cell_devices)
    if max(needs) > spec.device_memory:
      return None
  return Fit(tuple(splits), recompute=policy)


class _Cells:
  """What runs of layers take as cells, with the best choice for each.

  Attributes:
    is_thinned: Whether ways were left out that might have been the best.
  """

  def __init__(self, layers: Sequence[LayerCost], spec: PipelineSpec):
    assert spec.device_memory is not None
    self._limit = spec.device_memory
    self._names = [layer.name for layer in layers]
    self._is_shared = spec.cells_per_device > 1
    self.num_cells, self.num_layers = spec.num_cells, len(layers)
    self._cell_devices = spec.cell_devices
    self._memory = cell_memory(layers, spec)
    self._stashed = peak_stash(
      spec.schedule, spec.cell_devices, spec.num_micro_batches
    )
    # Those that wait for their W have their activations in any case, and so
    # has the one whose backward pass runs.
    waiting = peak_handed(
      spec.schedule, spec.cell_devices, spec.num_micro_batches
    )
    self._spared = [
      max(s - w - 1, 0) for s, w in zip(self._stashed, waiting, strict=True)
    ]
    self._in_flight = list(zip(self._stashed, self._spared, strict=True))
    self._again = spec.num_recomputed
    self._num_micro_batches = spec.num_micro_batches
    times = cost_model.to_integers(
      [x.forward for x in layers] + [x.backward for x in layers]
    )
    forward, backward = times[: len(layers)], times[len(layers) :]
    self._forward = cost_model.prefix_sums(forward)
    self._both = cost_model.prefix_sums(
      f + b for f, b in zip(forward, backward, strict=True)
    )
    self._saved = np.array(forward, np.int64)
    self._bytes = np.array([x.activation_bytes for x in layers], np.int64)
    self._put = np.array(put_bytes(spec.skips, len(layers)), np.int64)
    self._outputs = np.array([x.output_bytes for x in layers], np.int64)
    self._first = cost_model.first_with_backward(layers)
    self.inputs = np.array(
      [spec.input_bytes, *(x.output_bytes for x in layers)], np.int64
    )
    self.is_thinned = False
    self._best = functools.cache(self._best_choice)

  @property
  def most(self) -> int:
    """More than any cell takes."""
    return self._num_micro_batches * (self._both[-1] + self._forward[-1]) + 1

  def room(self, cell: int, start: int, end: int) -> int:
    """Bytes that are left on a device of its own if nothing is kept."""
    return self._limit - self._memory.of_cell(cell, start, end).total

  def time(self, cell: int, start: int, end: int) -> int | None:
    """The least time of all micro-batches; None if it does not fit."""
    room = self.room(cell, start, end)
    if room < 0:
      return None
    again = self._again[cell] if end > self._first else 0
    whole = self._num_micro_batches * (self._both[end] - self._both[start])
    if not again:
      return whole
    whole += again * (self._forward[end] - self._forward[start])
    best = self._best(*self._in_flight[cell], start, end, room)
    return whole - again * best.saved

  def is_within(self, cell: int, start: int, end: int, most: int) -> bool:
    """Whether the layers fit as a cell that takes no more time than `most`."""
    room = self.room(cell, start, end)
    if room < 0:
      return False
    again = self._again[cell] if end > self._first else 0
    whole = self._num_micro_batches * (self._both[end] - self._both[start])
    forward = self._forward[end] - self._forward[start]
    wanted = whole + again * forward - most
    if wanted <= 0 or not again:
      return wanted <= 0
    if whole > most:
      return False
    # What is surely had, and what surely cannot be, take less time to see.
    saved, extra = self._of_layers(*self._in_flight[cell], start, end)
    if again * kept_layers.at_least(saved, extra, room) >= wanted:
      return True
    if again * kept_layers.at_most(saved, extra, room) < wanted:
      return False
    time = self.time(cell, start, end)
    return time is not None and time <= most

  def choice(self, positions: Sequence[int], *, is_proven: bool) -> Fit:
    """What to keep in a cut.

    Args:
      positions: Where cells begin and the last ends.
      is_proven: Whether no cut is better.
    """
    choose = self._shared if self._is_shared else self._all_kept
    kept = frozenset(self._names[i] for i in choose(positions))
    is_proven = is_proven and not (self._is_shared or self.is_thinned)
    return Fit(tuple(positions[1:-1]), kept, is_proven=is_proven)

  def _all_kept(self, positions: Sequence[int]) -> list[int]:
    """The layers to keep, each device having one cell."""
    kept = []
    for k in range(self.num_cells):
      start, end = positions[k : k + 2]
      room = self.room(k, start, end)
      if self._again[k] and end > self._first and room >= 0:
        kept += [
          start + i
          for i in self._best(*self._in_flight[k], start, end, room).kept
        ]
    return kept

  def _shared(self, positions: Sequence[int]) -> list[int]:
    """The same for devices with several cells.

    The room that a device gains where the largest of its cells has less to
    recompute is not counted.
    """
    needs = device_bytes(self._memory.of_cells(positions), self._cell_devices)
    # Sums over all micro-batches have to stay below 2**63.
    whole = self._forward[-1] * max(self._again)
    shift = max(whole.bit_length() - 62, 0)
    kept = []
    for device, need in enumerate(needs):
      ranges: list[int] = []
      saved, extra, outputs = [], [], []
      for k in range(self.num_cells):
        start, end = max(positions[k], self._first), positions[k + 1]
        if self._cell_devices[k] != device or start >= end:
          continue
        ranges += range(start, end)
        saved.append((self._saved[start:end] >> shift) * self._again[k])
        extra.append(
          self._bytes[start:end] * (self._spared[k] + 1)
          + self._put[start:end] * self._stashed[k]
        )
        outputs.append(self._outputs[start:end] * self._stashed[k])
        # No layer of the next cell is recomputed from the last of this one.
        outputs[-1][-1] = 0
      if ranges and need <= self._limit:
        choice = kept_layers.choose(
          np.concatenate(saved),
          np.concatenate(extra),
          np.concatenate(outputs),
          self._limit - need,
        )
        self.is_thinned |= choice.is_thinned
        kept += [ranges[i] for i in choice.kept]
    return sorted(kept)

  def _of_layers(
    self, stashed: int, spared: int, start: int, end: int
  ) -> tuple[IntArray, IntArray]:
    """What each of a cell's layers saves if kept, and the bytes it costs.

    Args:
      stashed: The most micro-batches that the cell stashes.
      spared: How many of them have no activations if the layer is not kept.
      start: The cell's first layer.
      end: The layer behind its last.
    """
    saved = self._saved[start:end].copy()
    saved[: max(0, self._first - start)] = 0
    extra = self._bytes[start:end] * spared + self._put[start:end] * stashed
    return saved, extra

  def _best_choice(
    self, stashed: int, spared: int, start: int, end: int, room: int
  ) -> kept_layers.Choice:
    """(1) The best choice in a cell; positions count from its start."""
    choice = kept_layers.choose(
      *self._of_layers(stashed, spared, start, end),
      self._outputs[start:end] * stashed,
      room,
    )
    self.is_thinned |= choice.is_thinned
    return choice


def _best_positions(cells: _Cells) -> tuple[int, ...] | None:
  """(2) The ends of the cells of the best cut; None if none fits."""
  low, high = 0, cells.most
  best = _positions_within(cells, high)
  if best is None:
    return None
  while low < high:
    most = (low + high) // 2
    positions = _positions_within(cells, most)
    if positions is None:
      low = most + 1
    else:
      # A choice that was thinned out may be worse than what is_within saw.
      best, high = positions, min(_largest_time(cells, positions), most)
  return best


def _largest_time(cells: _Cells, positions: Sequence[int]) -> int:
  times = []
  for k in range(cells.num_cells):
    time = cells.time(k, *positions[k : k + 2])
    assert time is not None
    times.append(time)
  return max(times)


def _positions_within(cells: _Cells, most: int) -> tuple[int, ...] | None:
  """Ends of cells that fit and take no more time than `most`, if there are."""
  # For each cell, where it may start and how far it then goes.
  reached: list[dict[int, int]] = []
  starts = [0]
  for k in range(cells.num_cells):
    reached.append({a: _reach(cells, k, a, most) for a in starts})
    # Each later cell needs a layer.
    last = cells.num_layers - (cells.num_cells - k - 1)
    ends = {
      b
      for a, far in reached[-1].items()
      for b in range(a + 1, min(far, last) + 1)
    }
    if not ends:
      return None
    starts = _worthwhile(sorted(ends), cells.inputs)
  if cells.num_layers not in ends:
    return None
  positions = [cells.num_layers]
  for of_cell in reversed(reached):
    positions.append(
      max(a for a, far in of_cell.items() if a < positions[-1] <= far)
    )
  return tuple(reversed(positions))


def _worthwhile(starts: Sequence[int], inputs: IntArray) -> list[int]:
  """Of starts in order, those than which no later one has less input."""
  kept: list[int] = []
  for a in reversed(starts):
    if not kept or inputs[a] < inputs[kept[-1]]:
      kept.append(a)
  return kept


def _reach(cells: _Cells, cell: int, start: int, most: int) -> int:
  """The last position that a cell reaches; its start if none."""
  return (
    bisect.bisect_left(
      range(start + 1, cells.num_layers + 1),
      True,
      key=lambda end: not cells.is_within(cell, start, end, most),
    )
    + start
  )
