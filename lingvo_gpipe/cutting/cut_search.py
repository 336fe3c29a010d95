# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact search for cuts, under bounds on memory too.

Dynamic programming over (cells so far, position), a step a cell:

```
position   0 ........ a ........ b ........ N
           |- k cells -|-- cell k --|
best(k + 1, b) = least over a of  best(k, a) joined with cell k = (a, b)
```

`joined` is a sum (of bytes) or a maximum (of memory). Both never grow where
best(k, a) shrinks, so a best way to b goes through a best way to some a. The
same holds for pairs (sum, maximum) and (sum, sum) in lexicographic order,
which is how ties are decided. All cells within the bounds are looked at, many
at a time.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from lingvo_gpipe.cutting.cut_problem import (
  INFINITE,
  CutProblem,
  Cuts,
  IntArray,
  Windows,
)

# Ends that are tried together: blocks of this width stay in the CPU's caches
# and waste little where the cells that could end there are short.
_BLOCK = 128


class Edges:
  """Possible cells, many at a time.

  `starts` and `ends` are arrays of positions that broadcast with each other,
  and so do the arrays that describe the cells.
  """

  def __init__(
    self, problem: CutProblem, cell: int, starts: IntArray, ends: IntArray
  ):
    self._problem = problem
    self._cell = cell
    self.starts = starts
    self.ends = ends
    before = problem.costs_before(cell)
    self.cost: IntArray = before[self.ends] - before[self.starts]
    self._memory: IntArray | None = None

  @property
  def memory(self) -> IntArray:
    """Bytes that each cell needs if it has a device to itself."""
    if self._memory is None:
      assert self._problem.memory is not None
      held, transient = self._problem.memory.parts(
        self._cell, self.starts, self.ends
      )
      self._memory = held + transient
    return self._memory

  @property
  def crossing_bytes(self) -> IntArray:
    """Bytes that cross to a cell from those before it."""
    crossing: IntArray = self._problem.crossing_bytes[self.starts]
    if self._problem.skips is not None:
      crossing = crossing + self._problem.skips.into(self.starts, self.ends)
    return crossing

  @property
  def squared_cost(self) -> IntArray:
    """The square of each cell's coarse cost."""
    before = self._problem.coarse_costs_before(self._cell)
    cost: IntArray = before[self.ends] - before[self.starts]
    return cost * cost


@dataclasses.dataclass(frozen=True)
class Criterion:
  """A number that each cell has, and how a cut's number comes of its cells'."""

  of_cells: Callable[[Edges], IntArray]
  join: np.ufunc


LARGEST_COST = Criterion(lambda edges: edges.cost, np.maximum)
CROSSING_BYTES = Criterion(lambda edges: edges.crossing_bytes, np.add)
LARGEST_MEMORY = Criterion(lambda edges: edges.memory, np.maximum)
SQUARED_COST = Criterion(lambda edges: edges.squared_cost, np.add)


def best_cuts(
  problem: CutProblem,
  criteria: Sequence[Criterion],
  largest_cost: int,
  largest_memory: int | None = None,
) -> Cuts | None:
  """The best of the cuts that keep to bounds.

  Args:
    problem: The layers.
    criteria: One, or two of which the first is a sum; the second decides
      between cuts that are equal in the first. Where both are equal, later
      cells are as long as they can be, the last one first.
    largest_cost: What no cell may cost more than.
    largest_memory: What no cell, by itself, may need more than; None for no
      bound.

  Returns:
    The cuts, or None where there are none within the bounds.
  """
  assert len(criteria) == 1 or criteria[0].join is np.add
  search = _Search(problem, criteria, largest_cost, largest_memory)
  if not search.windows.is_possible:
    return None
  # For each number of cells, and each criterion, the best value at positions
  # first[k] to last[k].
  values = [[np.zeros(1, np.int64) for _ in criteria]]
  for cell in range(problem.num_cells):
    values.append(search.step(cell, values[-1]))
  if values[-1][0][0] >= INFINITE:
    return None
  positions = [problem.num_layers]
  for cell in reversed(range(problem.num_cells)):
    positions.append(search.best_start(cell, values[cell], positions[-1]))
  return Cuts(
    tuple(reversed(positions)), tuple(int(value[0]) for value in values[-1])
  )


class _Search:
  """One step of the dynamic programming, forth and back."""

  def __init__(
    self,
    problem: CutProblem,
    criteria: Sequence[Criterion],
    largest_cost: int,
    largest_memory: int | None,
  ):
    self._problem = problem
    self._criteria = criteria
    self._largest_cost = largest_cost
    self._largest_memory = largest_memory
    self.windows = Windows(problem, largest_cost, largest_memory)

  def step(self, cell: int, before: Sequence[IntArray]) -> list[IntArray]:
    """The best values with `cell` added to the best ways to its starts."""
    first = self.windows.first[cell + 1]
    last = self.windows.last[cell + 1]
    after = [np.full(last - first + 1, INFINITE, np.int64) for _ in before]
    for low in range(first, last + 1, _BLOCK):
      ends = np.arange(low, min(low + _BLOCK, last + 1), dtype=np.int64)
      starts = self._starts(cell, low, int(ends[-1]))
      if len(starts):
        joined = self._join(cell, starts, ends, before)
        for values, block in zip(after, joined, strict=True):
          best = np.minimum(block.min(axis=0), INFINITE)
          values[low - first : low - first + len(ends)] = best
    return after

  def best_start(self, cell: int, before: Sequence[IntArray], end: int) -> int:
    """Where the cell starts in the best way to `end`."""
    starts = self._starts(cell, end, end)
    joined = self._join(cell, starts, np.array([end]), before)
    return int(starts[joined[-1][:, 0].argmin()])

  def _starts(self, cell: int, first_end: int, last_end: int) -> IntArray:
    """The positions at which cells with these ends can start."""
    low = max(
      self.windows.earliest_start(cell, first_end), self.windows.first[cell]
    )
    high = min(self.windows.last[cell], last_end - 1)
    return np.arange(low, high + 1, dtype=np.int64)

  def _join(
    self,
    cell: int,
    starts: IntArray,
    ends: IntArray,
    before: Sequence[IntArray],
  ) -> list[IntArray]:
    """[starts, ends], by criterion, INFINITE for cells that are out.

    A cell is out if it exceeds a bound, or is not best for its end in an
    earlier criterion.
    """
    edges = Edges(self._problem, cell, starts[:, None], ends[None, :])
    allowed = edges.cost <= self._largest_cost
    if starts[-1] >= ends[0]:
      allowed &= edges.starts < edges.ends
    if self._largest_memory is not None:
      allowed &= edges.memory <= self._largest_memory
    first = self.windows.first[cell]
    blocks: list[IntArray] = []
    for values, criterion in zip(before, self._criteria, strict=True):
      if blocks:
        allowed = blocks[-1] == blocks[-1].min(axis=0)
      joined: IntArray = criterion.join(
        values[starts - first][:, None], criterion.of_cells(edges)
      )
      blocks.append(np.where(allowed, joined, INFINITE))
    return blocks
