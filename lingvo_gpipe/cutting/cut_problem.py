# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The problem of where to cut layers into cells, in numbers.

Everything is an integer, so two cuts that are equally good are found to be,
and the result is the same on every machine. Positions count layers: a cell is
a pair of positions (a, b) with a < b and holds layers a to b - 1; K cells are
positions 0 = p[0] < p[1] < ... < p[K] = N.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.cutting.memory_model import CellMemory
from lingvo_gpipe.cutting.skips import SkipBytes

IntArray: TypeAlias = npt.NDArray[np.int64]

# More than any value that is compared; twice it still fits into 64 bits.
INFINITE = 2**62

# Squares are taken of costs whose sum has this many bits or fewer, so that a
# sum of squares stays below INFINITE.
_SQUARED_BITS = 30


@dataclasses.dataclass(frozen=True)
class CutProblem:
  """Layers as numbers.

  Attributes:
    num_cells: K, at most the number of layers N.
    cost_before: [N + 1], for each position the cost of all layers before it,
      in any cell but the last.
    coarse_before: [N + 1], the same in units so large that squares of its
      differences can be summed.
    last_cost_before: [N + 1], like cost_before, in the last cell, where no
      layer costs more than in others.
    last_coarse_before: [N + 1], like coarse_before, in the last cell.
    crossing_bytes: [N + 1], for each position the bytes that cross to another
      device if cells meet there; [0] is 0.
    memory: What a cell needs, or None if memory does not matter.
    skips: What crosses besides, to a cell whose layers take it of earlier
      ones; None for nothing.
  """

  num_cells: int
  cost_before: IntArray
  coarse_before: IntArray
  last_cost_before: IntArray
  last_coarse_before: IntArray
  crossing_bytes: IntArray
  memory: CellMemory | None = None
  skips: SkipBytes | None = None

  @property
  def total_cost(self) -> int:
    """More than any cell can cost, or as much."""
    return int(self.cost_before[-1])

  def costs_before(self, cell: int) -> IntArray:
    """[N + 1], for each position the cost, in a cell, of all layers before."""
    is_last = cell == self.num_cells - 1
    return self.last_cost_before if is_last else self.cost_before

  def coarse_costs_before(self, cell: int) -> IntArray:
    """[N + 1], the same in coarse units."""
    is_last = cell == self.num_cells - 1
    return self.last_coarse_before if is_last else self.coarse_before

  @property
  def num_layers(self) -> int:
    return len(self.cost_before) - 1


@dataclasses.dataclass(frozen=True)
class Cuts:
  """A way to cut.

  Attributes:
    positions: The K + 1 ends of cells, from 0 to N.
    values: What the search found it to be worth, by criterion.
  """

  positions: tuple[int, ...]
  values: tuple[int, ...]


def cut_problem(
  costs: Sequence[cost_model.Number],
  num_cells: int,
  crossing_bytes: Sequence[int] | None = None,
  memory: CellMemory | None = None,
  skips: SkipBytes | None = None,
  last_costs: Sequence[cost_model.Number] | None = None,
) -> CutProblem:
  """Turns layers into a CutProblem.

  Args:
    costs: The cost of each layer. They become integers by
      `cost_model.to_integers`, and coarse ones by division and rounding, so
      equal layers stay equal. If all are 0, each counts as 1.
    num_cells: K.
    crossing_bytes: See CutProblem; None for none.
    memory: See CutProblem.
    skips: See CutProblem.
    last_costs: The cost of each layer if it lies in the last cell, not above
      that in others; None if it is the same.
  """
  both = cost_model.to_integers([*costs, *(last_costs or ())])
  exact = both[: len(costs)]
  last = both[len(costs) :] or exact
  if not any(exact):
    exact = last = [1] * len(exact)
  assert all(a <= b for a, b in zip(last, exact, strict=True))
  # The divisor leaves a bit for what rounding adds.
  excess = max(0, sum(exact).bit_length() - (_SQUARED_BITS - 1))

  def sums(values: list[int], shift: int) -> IntArray:
    rounded = [(value + (1 << shift >> 1)) >> shift for value in values]
    return np.array(cost_model.prefix_sums(rounded), np.int64)

  return CutProblem(
    num_cells,
    sums(exact, 0),
    sums(exact, excess),
    sums(last, 0),
    sums(last, excess),
    np.array(crossing_bytes or [0] * (len(exact) + 1), np.int64),
    memory,
    skips,
  )


def least_largest_cost(problem: CutProblem) -> int:
  """The least cost that the largest cell can have if memory does not matter."""
  return _least_largest(
    problem.cost_before, problem.last_cost_before, problem.num_cells
  )


def least_largest_floor(problem: CutProblem) -> int:
  """What the cell with the largest memory needs at least, in any cut."""
  assert problem.memory is not None
  floors = problem.memory.floor_before
  floor = _least_largest(floors, floors, problem.num_cells)
  return -(-floor // problem.memory.divisor)


def _least_largest(before: IntArray, last: IntArray, num_cells: int) -> int:
  """The least that the largest cell can be.

  Args:
    before: Sums over the layers before each position, for all cells but the
      last.
    last: The same for the last cell, whose layers are no larger there.
    num_cells: K.
  """
  num_layers = len(before) - 1

  def is_possible(bound: int) -> bool:
    # The cells before the last, as long as can be, with a layer left for each
    # of those behind. They reach any position before that, too.
    position = 0
    for cell in range(num_cells - 1):
      end = furthest_end(before, position, bound)
      position = min(end, num_layers - (num_cells - 1 - cell))
    start = earliest_start(last, num_layers, bound)
    return max(start, num_cells - 1) <= position

  low = max(int(np.diff(last).max()), -(-int(last[-1]) // num_cells))
  high = int(before[-1])
  step = max(1, int(np.diff(before).max()))
  # The least is near the lower end: look there first.
  while low + step < high and not is_possible(low + step):
    low, step = low + step, 2 * step
  high = min(high, low + step)
  while low < high:
    middle = (low + high) // 2
    if is_possible(middle):
      high = middle
    else:
      low = middle + 1
  return low


def furthest_end(before: IntArray, start: int, largest: int) -> int:
  """The last position that a cell of at most `largest` can reach."""
  return int(np.searchsorted(before, before[start] + largest, 'right')) - 1


def earliest_start(before: IntArray, end: int, largest: int) -> int:
  """The first position from which a cell of at most `largest` reaches `end`."""
  return int(np.searchsorted(before, before[end] - largest, 'left'))


class Windows:
  """Which positions cells can meet at, within bounds.

  The bounds are on sums over a cell's layers: its cost, and what its memory
  cannot be below. A cell beyond one is out, and so is any longer one. So the
  positions at which cells k - 1 and k can meet lie between `first[k]`, from
  which the last position is just reachable, and `last[k]`, which is just
  reachable from 0.

  Attributes:
    first: [K + 1], the first position that k cells can end at.
    last: [K + 1], the last one.
    is_possible: Whether there are such positions for each k. If memory does
      not matter, all of them can then be part of a cut.
  """

  def __init__(
    self,
    problem: CutProblem,
    largest_cost: int,
    largest_memory: int | None = None,
  ):
    """Finds the windows; both bounds are inclusive, None is no bound."""
    self._problem = problem
    self._largest_cost = largest_cost
    self._memory_bounds: list[tuple[IntArray, int]] = []
    if largest_memory is not None:
      assert problem.memory is not None
      memory = problem.memory
      self._memory_bounds.append(
        (memory.floor_before, largest_memory * memory.divisor)
      )
    num_cells, num_layers = problem.num_cells, problem.num_layers
    self.last = [0]
    for k in range(num_cells):
      end = self.furthest_end(k, self.last[-1])
      self.last.append(min(end, num_layers - (num_cells - 1 - k)))
    self.first = [num_layers]
    for k in reversed(range(num_cells)):
      self.first.append(max(self.earliest_start(k, self.first[-1]), k))
    self.first.reverse()
    self.is_possible = all(
      first <= last for first, last in zip(self.first, self.last, strict=True)
    )

  @property
  def num_candidates(self) -> int:
    """About how many cells a search over the windows looks at."""
    return sum(
      (last - first + 1) * min(last - self.earliest_start(k, last), last + 1)
      for k, (first, last) in enumerate(
        zip(self.first[1:], self.last[1:], strict=True)
      )
    )

  def _bounds(self, cell: int) -> list[tuple[IntArray, int]]:
    costs = self._problem.costs_before(cell)
    return [(costs, self._largest_cost), *self._memory_bounds]

  def furthest_end(self, cell: int, start: int) -> int:
    """The last position that a cell from `start` can reach."""
    return min(
      furthest_end(sums, start, most) for sums, most in self._bounds(cell)
    )

  def earliest_start(self, cell: int, end: int) -> int:
    """The first position from which a cell reaches `end`."""
    return max(
      earliest_start(sums, end, most) for sums, most in self._bounds(cell)
    )

  def earliest_starts(self, cell: int, ends: IntArray) -> IntArray:
    """`earliest_start` of each of several ends."""
    starts = [
      np.searchsorted(sums, sums[ends] - most, 'left')
      for sums, most in self._bounds(cell)
    ]
    latest: IntArray = np.max(starts, axis=0)
    return latest

  def furthest_ends(self, cell: int, starts: IntArray) -> IntArray:
    """`furthest_end` of each of several starts."""
    ends = [
      np.searchsorted(sums, sums[starts] + most, 'right') - 1
      for sums, most in self._bounds(cell)
    ]
    first: IntArray = np.min(ends, axis=0)
    return first
