# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact search for a cut within bounds.

Dynamic programming over (cells so far, position), a step a cell:

```
position   0 ........ a ........ b ........ N
           |- k cells -|-- cell k --|
best(k + 1, b) = least over a of  best(k, a) joined with cell k = (a, b)
```

`joined` is a sum (of bytes) or a maximum (of memory). Both never grow where
best(k, a) shrinks, so a best way to b goes through a best way to some a. So it
is with pairs (sum, maximum) and (sum, sum) in lexicographic order.

Where cells share devices under a memory limit a way has also used up some of
every device. So the search keeps, for each position, all ways of which none is
at least as good as another in every respect, up to a number.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe.cutting.cut_problem import CutProblem, Windows
from lingvo_gpipe.cutting.skips import IntArray

# More than any value that is compared.
_INFINITE = 2**62
# Ends that are tried together: what stays in the CPU's caches.
_BLOCK = 128
# So many numbers of ways that share devices are compared within seconds.
_MAX_COMPARISONS = 100_000_000

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class Criterion(NamedTuple):
  """A number that each cell has, and how a cut's number comes of its cells'."""

  of_cells: Callable[[CutProblem, int, IntArray, IntArray], IntArray]
  join: np.ufunc


LARGEST_COST = Criterion(CutProblem.cost, np.maximum)
CROSSING_BYTES = Criterion(CutProblem.crossing_bytes, np.add)
LARGEST_MEMORY = Criterion(CutProblem.cell_memory, np.maximum)
SQUARED_COST = Criterion(CutProblem.squared_cost, np.add)


class Cuts(NamedTuple):
  """The K + 1 ends of cells, from 0 to N, and their values by criterion."""

  positions: tuple[int, ...]
  values: tuple[int, ...]


@dataclasses.dataclass
class _Ways:
  """Ways to cut off some cells from the start, a row each.

  Attributes:
    positions: [n], where the last of the cells ends, ascending.
    parents: [n], the way of one cell less that it continues.
    values: [n, criteria], the values so far.
    held: [n, D], bytes that each device holds for its cells so far; D is 0
      where cells share none.
    transient: [n, D], bytes that it needs for one of them at a time.
  """

  positions: IntArray
  parents: IntArray
  values: IntArray
  held: IntArray
  transient: IntArray

  def take(self, rows: IntArray | BoolArray) -> '_Ways':
    return _Ways(*(column[rows] for column in vars(self).values()))


class CutSearch:
  def __init__(self, problem: CutProblem, device_memory: int | None = None):
    """`device_memory`: bytes for all its cells; None looks at cells alone."""
    self.problem = problem
    self._num_devices = 0 if device_memory is None else problem.num_devices
    self._device_memory = device_memory or 0
    cells = problem.num_devices * problem.num_cells
    self._max_ways = max(50, math.isqrt(_MAX_COMPARISONS // (2 * cells)))

  def best(
    self,
    criteria: Sequence[Criterion],
    largest_cost: int,
    largest_memory: int | None = None,
  ) -> Cuts | None:
    """The best of the cuts that keep to bounds, or None if none is found.

    Args:
      criteria: At most two; the second decides between cuts that are equal in
        the first, which is then a sum. Without any, any cut will do. Where all
        are equal and no devices are shared, later cells are as long as they can
        be, the last one first.
      largest_cost: The bound of each cell's cost.
      largest_memory: That of what it needs by itself; None for no bound.
    """
    assert len(criteria) < 2 or criteria[0].join is np.add
    windows = Windows(self.problem, largest_cost, largest_memory)
    if not windows.is_possible:
      return None
    start = np.zeros((1, 1), np.int64)
    device = start.repeat(self._num_devices, axis=1)
    values = start.repeat(len(criteria), axis=1)
    ways = _Ways(start[0], start[0], values, device, device)
    history = [ways]
    for cell in range(self.problem.num_cells):
      ways = self._step(cell, ways, windows, criteria, largest_memory)
      if self._num_devices:
        ways = self._without_worse(self._fitting(cell, history[-1], ways))
      if not len(ways.positions):
        return None
      history.append(ways)
    row = int(np.lexsort(ways.values.T[::-1])[0]) if criteria else 0
    best = tuple(map(int, ways.values[row]))
    positions = []
    for ways in reversed(history):
      positions.append(int(ways.positions[row]))
      row = int(ways.parents[row])
    return Cuts(tuple(reversed(positions)), best)

  def _step(
    self,
    cell: int,
    ways: _Ways,
    windows: Windows,
    criteria: Sequence[Criterion],
    largest_memory: int | None,
  ) -> _Ways:
    blocks = [ways.take(np.arange(0))]
    last = windows.last[cell + 1]
    for low in range(windows.first[cell + 1], last + 1, _BLOCK):
      ends = np.arange(low, min(low + _BLOCK, last + 1))
      earliest = windows.earliest_start(cell, ends)
      first, end = np.searchsorted(ways.positions, (earliest[0], ends[-1]))
      if first == end:
        continue
      starts = ways.positions[first:end, None]
      # [starts, ends]: which cells keep to the bounds, and the values.
      allowed = (starts >= earliest) & (starts < ends)
      if largest_memory is not None:
        need = self.problem.cell_memory(cell, starts, ends)
        allowed &= need <= largest_memory
      values = []
      for i, criterion in enumerate(criteria):
        value = criterion.of_cells(self.problem, cell, starts, ends)
        value = criterion.join(ways.values[first:end, i, None], value)
        values.append(np.broadcast_to(value, allowed.shape))
      if not self._num_devices:
        _keep_best(allowed, values)
      columns, rows = np.nonzero(allowed.T)
      longer = ways.take(first + rows)
      longer.positions, longer.parents = ends[columns], first + rows
      for i, value in enumerate(values):
        longer.values[:, i] = value[rows, columns]
      blocks.append(longer)
    joined = zip(*(vars(block).values() for block in blocks), strict=True)
    return _Ways(*map(np.concatenate, joined))

  def _fitting(self, cell: int, ways: _Ways, longer: _Ways) -> _Ways:
    """The longer ways whose devices hold what they have, and the rest."""
    memory, device = self.problem.memory, self.problem.cell_devices[cell]
    held, transient = memory.parts(
      cell, ways.positions[longer.parents], longer.positions
    )
    longer.held[:, device] += held
    transient = np.maximum(longer.transient[:, device], transient)
    longer.transient[:, device] = transient
    need = longer.held[:, device] + transient
    # All devices together hold what is left, too.
    room = self._device_memory * self._num_devices - longer.held.sum(axis=1)
    left = memory.held_before[-1] - memory.held_before[longer.positions]
    return longer.take((need <= self._device_memory) & (left <= room))

  def _without_worse(self, ways: _Ways) -> _Ways:
    """Drops ways that another way to the same position makes needless.

    If too many are left, those on whose fullest device the least room is left.
    """
    if not len(ways.positions):
      return ways
    need = (ways.held + ways.transient).max(axis=1)
    order = np.lexsort((need, ways.positions))
    positions, starts, counts = np.unique(
      ways.positions[order], return_index=True, return_counts=True
    )
    step = -(-len(positions) // self._max_ways)
    share = -(-self._max_ways // len(positions))
    useful = []
    for start, count in zip(starts[::step], counts[::step], strict=True):
      # More than the share, as some will turn out to be needless.
      rows = order[start : start + min(count, 4 * share)]
      rows = rows[_not_dominated(ways.take(rows))]
      useful.append(rows[:share])
    return ways.take(np.concatenate(useful))


def _keep_best(allowed: BoolArray, values: Sequence[IntArray]) -> None:
  """Leaves one start allowed for each end: the best, the first of equal ones.

  All arrays are [starts, ends].
  """
  for value in values:
    left = np.where(allowed, value, _INFINITE)
    allowed &= left == left.min(axis=0)
  first = allowed.argmax(axis=0)
  is_possible = allowed.any(axis=0)
  allowed[:] = False
  allowed[first[is_possible], np.flatnonzero(is_possible)] = True


def _not_dominated(ways: _Ways) -> IntArray:
  """Of ways to one position, the rows that no other row makes needless.

  One does that is not larger in lexicographic order of its values, and that
  needs no more of any device.
  """
  count = len(ways.positions)
  covers = np.ones((count, count), np.bool_)
  for column in ways.values.T[::-1]:
    row, other = column[:, None], column[None, :]
    covers = (row < other) | ((row == other) & covers)
  needs = np.concatenate([ways.held, ways.transient], axis=1)
  # Most devices have the same in all ways.
  for column in needs.T[(needs != needs[:1]).any(axis=0)]:
    covers &= column[:, None] <= column[None, :]
  # Of equal rows the first is needed.
  is_before = np.triu(np.ones_like(covers), 1)
  covers &= is_before | ~covers.T
  return np.flatnonzero(~covers.any(axis=0))
