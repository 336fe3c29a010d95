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
"""

import bisect
import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from lingvo_gpipe.cutting import cost_model, kept_layers
from lingvo_gpipe.cutting.best_cut import spec_cut
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import PipelineSpec
from lingvo_gpipe.cutting.memory_model import device_bytes
from lingvo_gpipe.cutting.skips import IntArray, put_bytes

# How often devices with several cells are cut anew.
_MOST_ROUNDS = 4


# The first layer of each cell but the first, and the names of kept layers.
Fit: TypeAlias = tuple[tuple[int, ...], frozenset[str]]


def fits(
  layers: Sequence[LayerCost], spec: PipelineSpec, splits: Sequence[int] | None
) -> list[Fit]:
  """The cuts, and what is kept in each, that may give the shortest step.

  The spec has a memory limit, and the policy 'always'. ValueError if two layers
  have the same name.
  """
  names = collections.Counter(layer.name for layer in layers)
  repeated = sorted(name for name, count in names.items() if count > 1)
  if repeated:
    raise ValueError(
      f'Several layers are named {repeated}. What is kept goes by name: give '
      'each a name of its own.'
    )
  cells = Cells(layers, spec)
  if splits is not None:
    return [(tuple(splits), cells.kept((0, *splits, len(layers))))]
  if spec.cells_per_device == 1:
    positions = best_positions(cells)
    if positions is None:
      return []
    return [(positions[1:-1], cells.kept(positions))]
  choices: list[Fit] = []
  for _ in range(_MOST_ROUNDS):
    positions = spec_cut(layers, spec)
    if positions is None:
      break
    choice = positions[1:-1], cells.kept(positions)
    if choice in choices:
      break
    choices.append(choice)
    spec = dataclasses.replace(spec, kept=choice[1])
  return choices


class Cells:
  """What runs of layers take as cells, with the best choice for each."""

  def __init__(self, layers: Sequence[LayerCost], spec: PipelineSpec):
    assert spec.device_memory is not None
    self._limit = spec.device_memory
    self._layers, self._spec = layers, spec
    self.num_cells, self.num_layers = spec.num_cells, len(layers)
    self._memory = spec.cell_memory(layers)
    # For each cell: `stashed` micro-batches, of which `spared` have no
    # activations unless they are kept. Those that wait for their W have them in
    # any case, and so has the one whose backward pass runs.
    self._in_flight = [
      (stashed, max(stashed - waiting - 1, 0))
      for stashed, waiting, _ in zip(*spec.counts, strict=True)
    ]
    self._again = spec.counts.recomputed
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
    outputs = [x.output_bytes for x in layers]
    self.inputs = np.array([spec.input_bytes, *outputs], np.int64)
    self._outputs = self.inputs[1:]
    # More than any cell takes.
    once = self._both[-1] + self._forward[-1]
    self.most = spec.num_micro_batches * once + 1
    self._first = cost_model.first_with_backward(layers)
    self._best = functools.cache(self._best_choice)

  def _room(self, cell: int, start: int, end: int) -> int:
    """Bytes that are left on a device of its own if nothing is kept."""
    return self._limit - self._memory.of_cell(cell, start, end).total

  def _times(self, cell: int, start: int, end: int) -> tuple[int, int, int]:
    """The time of a cell without what runs again; how often; the time of it."""
    both = self._both[end] - self._both[start]
    again = self._again[cell] if end > self._first else 0
    forward = self._forward[end] - self._forward[start]
    return self._spec.num_micro_batches * both, again, forward

  def time(self, cell: int, start: int, end: int) -> int:
    """The least time of all micro-batches, for a cell that fits."""
    whole, again, forward = self._times(cell, start, end)
    if not again:
      return whole
    room = self._room(cell, start, end)
    saved, _ = self._best(*self._in_flight[cell], start, end, room)
    return whole + again * (forward - saved)

  def is_within(self, cell: int, start: int, end: int, most: int) -> bool:
    """Whether a cell fits that takes no more time than `most`."""
    room = self._room(cell, start, end)
    if room < 0:
      return False
    whole, again, forward = self._times(cell, start, end)
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
    return self.time(cell, start, end) <= most

  def kept(self, positions: Sequence[int]) -> frozenset[str]:
    """Names of the layers to keep in a cut, given by the ends of its cells."""
    own = self._spec.cells_per_device == 1
    choose = self._all_kept if own else self._shared
    return frozenset(self._layers[i].name for i in choose(positions))

  def _all_kept(self, positions: Sequence[int]) -> list[int]:
    """The layers to keep, each device having one cell."""
    kept: list[int] = []
    for k in range(self.num_cells):
      start, end = positions[k : k + 2]
      room = self._room(k, start, end)
      if self._again[k] and end > self._first and room >= 0:
        _, chosen = self._best(*self._in_flight[k], start, end, room)
        kept += [start + i for i in chosen]
    return kept

  def _shared(self, positions: Sequence[int]) -> list[int]:
    """The same for devices with several cells.

    What a device gains where its largest cell recomputes less is not counted.
    """
    devices = self._spec.cell_devices
    needs = device_bytes(self._memory.of_cells(positions), devices)
    # Sums over all micro-batches have to stay below 2**63.
    whole = self._forward[-1] * max(self._again)
    shift = max(whole.bit_length() - 62, 0)
    kept: list[int] = []
    for device, need in enumerate(needs):
      ranges: list[int] = []
      saved, extra, outputs = [], [], []
      for k in range(self.num_cells):
        start, end = max(positions[k], self._first), positions[k + 1]
        if devices[k] != device or start >= end:
          continue
        ranges += range(start, end)
        stashed, spared = self._in_flight[k]
        saved.append((self._saved[start:end] >> shift) * self._again[k])
        extra.append(self._of_layers(stashed, spared + 1, start, end)[1])
        outputs.append(self._outputs[start:end] * stashed)
        # No layer of the next cell is recomputed from the last of this one.
        outputs[-1][-1] = 0
      if ranges and need <= self._limit:
        _, chosen = kept_layers.choose(
          np.concatenate(saved),
          np.concatenate(extra),
          np.concatenate(outputs),
          self._limit - need,
        )
        kept += [ranges[i] for i in chosen]
    return kept

  def _of_layers(
    self, stashed: int, spared: int, start: int, end: int
  ) -> tuple[IntArray, IntArray]:
    """What each of a cell's layers saves if kept, and the bytes it costs."""
    saved = self._saved[start:end].copy()
    saved[: max(0, self._first - start)] = 0
    extra = self._bytes[start:end] * spared + self._put[start:end] * stashed
    return saved, extra

  def _best_choice(
    self, stashed: int, spared: int, start: int, end: int, room: int
  ) -> tuple[int, tuple[int, ...]]:
    return kept_layers.choose(
      *self._of_layers(stashed, spared, start, end),
      self._outputs[start:end] * stashed,
      room,
    )


def best_positions(cells: Cells) -> tuple[int, ...] | None:
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
      continue
    best = positions
    # A choice that was thinned out may be worse than what is_within saw.
    ends = range(cells.num_cells)
    high = min(most, max(cells.time(k, *best[k : k + 2]) for k in ends))
  return best


def _positions_within(cells: Cells, most: int) -> tuple[int, ...] | None:
  """Ends of cells that fit and take no more time than `most`, if there are."""
  # For each cell, where it may start and how far it then goes.
  reached: list[dict[int, int]] = []
  starts = [0]
  for k in range(cells.num_cells):
    reached.append({a: _reach(cells, k, a, most) for a in starts})
    # Each cell to come needs a layer.
    last = cells.num_layers - (cells.num_cells - k - 1)
    ends = {
      b
      for a, far in reached[-1].items()
      for b in range(a + 1, min(far, last) + 1)
    }
    # Of starts, those than which no later one has less input.
    starts = []
    for a in sorted(ends, reverse=True):
      if not starts or cells.inputs[a] < cells.inputs[starts[-1]]:
        starts.append(a)
  if cells.num_layers not in ends:
    return None
  positions = [cells.num_layers]
  for of_cell in reversed(reached):
    positions.append(
      max(a for a, far in of_cell.items() if a < positions[-1] <= far)
    )
  return tuple(reversed(positions))


def _reach(cells: Cells, cell: int, start: int, most: int) -> int:
  """The last position that a cell reaches; its start if none."""
  return start + bisect.bisect_left(
    range(start + 1, cells.num_layers + 1),
    True,
    key=lambda end: not cells.is_within(cell, start, end, most),
  )
