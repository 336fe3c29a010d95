# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Search for cuts whose cells share devices, under a limit on memory.

Cell k lies on device k mod D, and what a device may hold is spent by all of
its cells. So a way to a position has more to it than its value: how much of
every device it has used up. The search keeps, for each position, all ways of
which none is at least as good as another in every respect. Their number can
grow fast, so it is bounded; `has_dropped` tells whether the bound ever cut
anything off, and with it the proof that the result is best.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  Cuts,
  IntArray,
  Windows,
)
from lingvo_gpipe.cutting.cut_search import (
  CROSSING_BYTES,
  LARGEST_COST,
  LARGEST_MEMORY,
  SQUARED_COST,
  Criterion,
  Edges,
  best_cuts,
)

_MAX_COMPARISONS = 100_000_000
# With more cells times layers, the question whether any cut fits is only put
# to the cut whose largest cell needs least.
_LARGE = 20_000

BoolArray: TypeAlias = npt.NDArray[np.bool_]


def fits(
  problem: CutProblem,
  positions: Sequence[int],
  num_devices: int,
  device_memory: int,
) -> bool:
  """Whether no device needs more than `device_memory` bytes under a cut."""
  assert problem.memory is not None
  held = [0] * num_devices
  transient = [0] * num_devices
  for cell in range(problem.num_cells):
    need = problem.memory.of_cell(cell, positions[cell], positions[cell + 1])
    device = cell % num_devices
    held[device] += need.held
    transient[device] = max(transient[device], need.transient)
  return all(
    h + t <= device_memory for h, t in zip(held, transient, strict=True)
  )


@dataclasses.dataclass
class _Ways:
  """Ways to cut off some cells from the start; row i is the i-th way.

  Attributes:
    positions: [n], where the last of the cells ends.
    parents: [n], the way of one cell less that it continues.
    sums: [n, criteria], the values so far.
    held: [n, D], bytes that each device holds for its cells so far.
    transient: [n, D], bytes that it needs for one of them at a time.
  """

  positions: IntArray
  parents: IntArray
  sums: IntArray
  held: IntArray
  transient: IntArray

  def take(self, rows: IntArray) -> '_Ways':
    return _Ways(
      self.positions[rows],
      self.parents[rows],
      self.sums[rows],
      self.held[rows],
      self.transient[rows],
    )


class SharedDeviceSearch:
  """The best cut by all criteria of `best_cut`.

  Attributes:
    has_dropped: Whether the result is unproven: ways were dropped that might
      have led to a better cut, or to a cut at all.
  """

  def __init__(
    self,
    problem: CutProblem,
    num_devices: int,
    device_memory: int,
    max_ways: int | None = None,
  ):
    self._problem = problem
    self._num_devices = num_devices
    self._device_memory = device_memory
    if max_ways is None:
      max_ways = _max_ways(problem.num_cells, num_devices)
    self._max_ways = max_ways
    self.has_dropped = False

  def best(self) -> Cuts | None:
    """The best cut, or None if none was found to fit."""
    limit = self._device_memory
    costs = self._costs()
    if not len(costs):
      return None
    # Under the tightest bound the search is short, however large the problem.
    cost: int | None = int(costs[0])
    if self._run([], int(costs[0]), limit) is None:
      cost = self._least_bound(costs, lambda cost: self._any(cost) is not None)
    if cost is None:
      return None
    fewest = self._run([CROSSING_BYTES], cost, limit)
    if fewest is None:  # Only if ways were dropped.
      return self._any(cost)
    fewest_bytes = fewest.values[0]

    def keeps_bytes(memory: int) -> bool:
      cuts = self._run([CROSSING_BYTES], cost, memory, fewest_bytes)
      return cuts is not None

    memory = self._least_bound(self._memories(cost), keeps_bytes)
    return (
      self._run([CROSSING_BYTES, SQUARED_COST], cost, memory or limit) or fewest
    )

  def any(self) -> Cuts | None:
    """Some cut that fits, or None if none was found."""
    return self._any(self._problem.total_cost)

  def _any(self, largest_cost: int) -> Cuts | None:
    """Some cut that fits with no cell above a cost, or None."""
    limit = self._device_memory
    # Even cells often do, and are found at once.
    even = best_cuts(self._problem, [LARGEST_MEMORY], largest_cost, limit)
    if even is None:
      return None
    if fits(self._problem, even.positions, self._num_devices, limit):
      return even
    if self._problem.num_cells * self._problem.num_layers > _LARGE:
      self.has_dropped = True
      return None
    return self._run([], largest_cost, limit)

  def _least_bound(
    self, bounds: IntArray, is_possible: Callable[[int], bool]
  ) -> int | None:
    """The first of ascending bounds that is possible, as all after it are."""
    if not len(bounds):
      return None
    # The first is the likeliest.
    if is_possible(int(bounds[0])):
      return int(bounds[0])
    if not is_possible(int(bounds[-1])):
      return None
    low, high = 1, len(bounds) - 1
    while low < high:
      middle = (low + high) // 2
      if is_possible(int(bounds[middle])):
        high = middle
      else:
        low = middle + 1
    return int(bounds[high])

  def _costs(self) -> IntArray:
    """What the largest cell can cost, from the least that may be possible."""
    problem = self._problem
    alone = best_cuts(
      problem, [LARGEST_COST], problem.total_cost, self._device_memory
    )
    if alone is None:
      return np.zeros(0, np.int64)
    before, last = problem.cost_before, problem.last_cost_before
    costs = np.union1d(before[None, :] - before[:, None], last[-1] - last)
    return costs[costs >= alone.values[0]]

  def _memories(self, largest_cost: int) -> IntArray:
    """What the largest cell can need, from the least that may be possible."""
    limit = self._device_memory
    alone = best_cuts(self._problem, [LARGEST_MEMORY], largest_cost, limit)
    assert alone is not None
    windows = Windows(self._problem, largest_cost, limit)
    by_cell: list[IntArray] = []
    for cell in range(self._problem.num_cells):
      starts = np.arange(windows.first[cell], windows.last[cell] + 1)
      rows, ends = _ranges(
        starts + 1,
        np.minimum(windows.furthest_ends(cell, starts), windows.last[cell + 1]),
      )
      memory = Edges(self._problem, cell, starts[rows], ends).memory
      by_cell.append(np.unique(memory[memory <= limit]))
    memories = np.unique(np.concatenate(by_cell))
    return memories[memories >= alone.values[0]]

  def _run(
    self,
    criteria: Sequence[Criterion],
    largest_cost: int,
    largest_memory: int,
    most_bytes: int | None = None,
  ) -> Cuts | None:
    """The best cut by criteria that are sums, within bounds for each cell.

    Args:
      criteria: The criteria, in order of importance; without any, any cut.
      largest_cost: What no cell may cost more than.
      largest_memory: What no cell, by itself, may need more than.
      most_bytes: What the first criterion may not exceed.
    """
    windows = Windows(self._problem, largest_cost, largest_memory)
    if not windows.is_possible:
      return None
    zeros = np.zeros((1, self._num_devices), np.int64)
    ways = _Ways(
      np.zeros(1, np.int64),
      np.zeros(1, np.int64),
      np.zeros((1, len(criteria)), np.int64),
      zeros,
      zeros,
    )
    history = [ways]
    for cell in range(self._problem.num_cells):
      longer = self._extend(
        windows, ways, cell, criteria, largest_cost, largest_memory
      )
      if most_bytes is not None:
        longer = longer.take(np.flatnonzero(longer.sums[:, 0] <= most_bytes))
      if not len(longer.positions):
        return None
      ways = self._without_worse(longer)
      history.append(ways)
    order = np.lexsort(ways.sums.T[::-1]) if criteria else [0]
    row = int(order[0])
    values = tuple(int(value) for value in ways.sums[row])
    positions = []
    for ways in reversed(history):
      positions.append(int(ways.positions[row]))
      row = int(ways.parents[row])
    return Cuts(tuple(reversed(positions)), values)

  def _extend(
    self,
    windows: Windows,
    ways: _Ways,
    cell: int,
    criteria: Sequence[Criterion],
    largest_cost: int,
    largest_memory: int,
  ) -> _Ways:
    """All ways that continue the given ones by a cell within the bounds."""
    memory, device = self._problem.memory, cell % self._num_devices
    assert memory is not None
    parents, ends = _ranges(
      np.maximum(ways.positions + 1, windows.first[cell + 1]),
      np.minimum(
        windows.furthest_ends(cell, ways.positions), windows.last[cell + 1]
      ),
    )
    edges = Edges(self._problem, cell, ways.positions[parents], ends)
    held, transient = memory.parts(cell, edges.starts, edges.ends)
    keep = np.flatnonzero(
      (edges.cost <= largest_cost) & (held + transient <= largest_memory)
    )
    parents = parents[keep]
    longer = _Ways(
      ends[keep],
      parents,
      ways.sums[parents],
      ways.held[parents],
      ways.transient[parents],
    )
    for i, criterion in enumerate(criteria):
      longer.sums[:, i] += criterion.of_cells(edges)[keep]
    longer.held[:, device] += held[keep]
    longer.transient[:, device] = np.maximum(
      longer.transient[:, device], transient[keep]
    )
    return longer.take(self._may_fit(longer, device))

  def _may_fit(self, ways: _Ways, device: int) -> IntArray:
    """The ways whose devices hold what they have, and can hold the rest."""
    memory = self._problem.memory
    assert memory is not None
    need = ways.held[:, device] + ways.transient[:, device]
    floor = memory.held_floor_before
    rest = -(-(floor[-1] - floor[ways.positions]) // memory.divisor)
    room = self._device_memory * self._num_devices - ways.held.sum(axis=1)
    return np.flatnonzero((need <= self._device_memory) & (rest <= room))

  def _without_worse(self, ways: _Ways) -> _Ways:
    """Drops ways that another way to the same position makes needless.

    If too many are left it drops those on whose fullest device the least room
    is left, at each position, and remembers that it did.
    """
    need = (ways.held + ways.transient).max(axis=1)
    order = np.lexsort((need, ways.positions))
    positions, starts, counts = np.unique(
      ways.positions[order], return_index=True, return_counts=True
    )
    step = -(-len(positions) // self._max_ways)
    share = -(-self._max_ways // len(positions))
    if step > 1:
      self.has_dropped = True
    kept = []
    for start, count in zip(starts[::step], counts[::step], strict=True):
      # More than the share, as some will turn out to be needless.
      rows = order[start : start + min(count, 4 * share)]
      if count > 1:
        rows = rows[self._needed(ways.take(rows))]
      if len(rows) > share or count > 4 * share:
        self.has_dropped = True
      kept.append(rows[:share])
    return ways.take(np.concatenate(kept))

  def _needed(self, ways: _Ways) -> IntArray:
    """The ways, to one position, that no other way to it makes needless."""
    table = np.concatenate([ways.sums, ways.held, ways.transient], axis=1)
    _, rows = np.unique(table, axis=0, return_index=True)
    rows = np.sort(rows)
    needed: IntArray = rows[_not_dominated(table[rows])]
    return needed


def _max_ways(num_cells: int, num_devices: int) -> int:
  """As many ways as a search can keep and still take seconds at most."""
  # Each way is compared with each other one, in two numbers a device.
  return max(50, math.isqrt(_MAX_COMPARISONS // (2 * num_devices * num_cells)))


def _ranges(first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
  """The numbers of ranges that start at `first` and include `last`.

  Returns:
    (rows, numbers): all numbers, and the range that each comes from. Ranges
    may be empty.
  """
  lengths = np.maximum(0, last - first + 1)
  rows = np.repeat(np.arange(len(first)), lengths)
  offsets = np.cumsum(lengths) - lengths
  numbers = np.arange(len(rows)) - (offsets - first)[rows]
  return rows, numbers


def _not_dominated(table: IntArray) -> BoolArray:
  """Marks the rows that no other row is at most equal to in every column."""
  covers = np.ones((len(table), len(table)), np.bool_)
  for column in table.T:
    covers &= column[:, None] <= column[None, :]
  np.fill_diagonal(covers, False)
  return np.logical_not(covers.any(axis=0))
