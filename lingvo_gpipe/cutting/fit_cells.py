# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cells in which as much is kept as fits, and the cut with the best of them.

What runs of layers take as cells depends on what is kept in them: (1) in
`fit`. The cut of the least largest cell is sought by bisection: (2) there.
"""

import bisect
import functools
from collections.abc import Sequence

import numpy as np

from lingvo_gpipe.cutting import cost_model, kept_layers
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import PipelineSpec, cell_memory
from lingvo_gpipe.cutting.memory_model import (
  device_bytes,
  peak_handed,
  peak_stash,
)
from lingvo_gpipe.cutting.skips import IntArray, put_bytes


class Cells:
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
    # For each cell: `stashed` micro-batches, of which `spared` have no
    # activations unless they are kept, and `again` forward passes that run
    # again. Those that wait for their W have their activations in any case, and
    # so has the one whose backward pass runs.
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

  def kept(self, positions: Sequence[int]) -> frozenset[str]:
    """Names of the layers to keep in a cut, given by the ends of its cells."""
    choose = self._shared if self._is_shared else self._all_kept
    return frozenset(self._names[i] for i in choose(positions))

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
    else:
      # A choice that was thinned out may be worse than what is_within saw.
      best, high = positions, min(_largest_time(cells, positions), most)
  return best


def _largest_time(cells: Cells, positions: Sequence[int]) -> int:
  times = []
  for k in range(cells.num_cells):
    time = cells.time(k, *positions[k : k + 2])
    assert time is not None
    times.append(time)
  return max(times)


def _positions_within(cells: Cells, most: int) -> tuple[int, ...] | None:
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


def _reach(cells: Cells, cell: int, start: int, most: int) -> int:
  """The last position that a cell reaches; its start if none."""
  return (
    bisect.bisect_left(
      range(start + 1, cells.num_layers + 1),
      True,
      key=lambda end: not cells.is_within(cell, start, end, most),
    )
    + start
  )
