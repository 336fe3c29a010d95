# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact search for the best cut.

Dynamic programming over (cells so far, position), a step a cell:

```
position   0 ........ a ........ b ........ N
           |- k cells -|-- cell k --|
best(k + 1, b) = least over a of  best(k, a) joined with cell k = (a, b)
```

`joined` is a sum (of bytes) or a maximum (of memory). Both never grow where
best(k, a) shrinks, so a best way to b goes through a best way to some a. The
same holds for pairs (sum, maximum) and (sum, sum) in lexicographic order,
which is how ties are decided.

Where cells share devices under a memory limit, there is more to a way than its
value: how much of every device it has used up. So the search keeps, for each
position, all ways of which none is at least as good as another in every
respect. Their number can grow fast, and is bounded.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  PipelineSpec,
  Windows,
  cell_memory,
  least_largest_cost,
  least_largest_floor,
  spec_problem,
)
from lingvo_gpipe.cutting.skips import IntArray

# More than any value that is compared.
_INFINITE = 2**62
# Ends that are tried together: blocks of this width stay in the CPU's caches
# and waste little where the cells that could end there are short.
_BLOCK = 128
# So many numbers of ways that share devices are compared within seconds.
_MAX_COMPARISONS = 100_000_000

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Criterion:
  """A number that each cell has, and how a cut's number comes of its cells'."""

  of_cells: Callable[[CutProblem, int, IntArray, IntArray], IntArray]
  join: np.ufunc


LARGEST_COST = Criterion(CutProblem.cost, np.maximum)
CROSSING_BYTES = Criterion(CutProblem.crossing_bytes, np.add)
LARGEST_MEMORY = Criterion(CutProblem.cell_memory, np.maximum)
SQUARED_COST = Criterion(CutProblem.squared_cost, np.add)


@dataclasses.dataclass(frozen=True)
class Cuts:
  """A way to cut.

  Attributes:
    positions: The K + 1 ends of cells, from 0 to N.
    values: What the search found it to be worth, by criterion.
  """

  positions: tuple[int, ...]
  values: tuple[int, ...]


@dataclasses.dataclass
class _Ways:
  """Ways to cut off some cells from the start; row i is the i-th way.

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

  def columns(self) -> tuple[IntArray, ...]:
    return (
      self.positions, self.parents, self.values, self.held, self.transient
    )  # fmt: skip

  def take(self, rows: IntArray | BoolArray) -> '_Ways':
    return _Ways(*(column[rows] for column in self.columns()))


class CutSearch:
  """Finds the best of the cuts that keep to bounds.

  Attributes:
    has_dropped: Whether ways were dropped that might have led to a better cut,
      or to a cut at all; only where cells share devices.
  """

  def __init__(
    self,
    problem: CutProblem,
    device_memory: int | None = None,
    max_ways: int | None = None,
  ):
    """Prepares a search.

    Args:
      problem: The layers.
      device_memory: Bytes that a device may hold for all of its cells; None if
        cells are to be taken by themselves.
      max_ways: How many ways to keep at most where cells share devices; None
        for so many that a search takes seconds.
    """
    self.problem = problem
    self._num_devices = 0 if device_memory is None else problem.num_devices
    self._device_memory = device_memory or 0
    if max_ways is None:
      cells = problem.num_devices * problem.num_cells
      max_ways = max(50, math.isqrt(_MAX_COMPARISONS // (2 * cells)))
    self._max_ways = max_ways
    self.has_dropped = False

  def best(
    self,
    criteria: Sequence[Criterion],
    largest_cost: int,
    largest_memory: int | None = None,
  ) -> Cuts | None:
    """The best of the cuts that keep to bounds.

    Args:
      criteria: At most two; the second decides between cuts that are equal in
        the first, which is then a sum. Without any, any cut will do. Where all
        are equal and no devices are shared, later cells are as long as they can
        be, the last one first.
      largest_cost: What no cell may cost more than.
      largest_memory: What no cell, by itself, may need more than; None for no
        bound.

    Returns:
      The cuts, or None where none were found within the bounds.
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
      if not len(ways.positions):
        return None
      history.append(ways)
    order = np.lexsort(ways.values.T[::-1]) if criteria else [0]
    row = int(order[0])
    best = tuple(int(value) for value in ways.values[row])
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
    """The ways worth keeping that continue the given ones by a cell."""
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
    joined = zip(*(block.columns() for block in blocks), strict=True)
    longer = _Ways(*map(np.concatenate, joined))
    if self._num_devices:
      longer = self._without_worse(self._fitting(cell, ways, longer))
    return longer

  def _fitting(self, cell: int, ways: _Ways, longer: _Ways) -> _Ways:
    """The ways whose devices hold what they have, and can hold the rest."""
    memory, device = self.problem.memory, self.problem.cell_devices[cell]
    assert memory is not None
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

    If too many are left it drops those on whose fullest device the least room
    is left, at each position, and remembers that it did.
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
    self.has_dropped |= step > 1
    kept = []
    for start, count in zip(starts[::step], counts[::step], strict=True):
      # More than the share, as some will turn out to be needless.
      rows = order[start : start + min(count, 4 * share)]
      rows = rows[_not_dominated(ways.take(rows))]
      self.has_dropped |= len(rows) > share or count > 4 * share
      kept.append(rows[:share])
    return ways.take(np.concatenate(kept))


def _keep_best(allowed: BoolArray, values: Sequence[IntArray]) -> None:
  """Leaves one start allowed for each end: the best, the first of equal ones.

  Args:
    allowed: [starts, ends].
    values: The same for each criterion.
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


@dataclasses.dataclass(frozen=True)
class BestCut:
  """The result of a search for the best cut.

  Attributes:
    positions: The ends of the best cut's cells, or None if no cut fits.
    is_proven: Whether every other cut was ruled out. Only a search for cells
      that share devices can end without a proof: under a tight memory limit,
      or with skips, which it counts even if both ends are on one device.
  """

  positions: tuple[int, ...] | None
  is_proven: bool


def best_cut(problem: CutProblem, device_memory: int | None) -> BestCut:
  """The best cut by the partitioner's criteria; see `partitioner.partition`.

  Args:
    problem: The layers.
    device_memory: Bytes that a device may hold; None for no limit.
  """
  assert problem.memory is not None
  search = CutSearch(problem)
  cost = _least_largest_cost(search, device_memory)
  if cost is None:
    return BestCut(None, True)
  alone = _best_at_cost(search, cost, device_memory)
  share_devices = 1 < problem.num_devices < problem.num_cells
  # Where they are on one device nothing crosses between them, but the search
  # does not know it.
  stays = problem.memory.has_skips or any(
    a == b for a, b in itertools.pairwise(problem.cell_devices)
  )
  is_exact = not (share_devices and stays)
  # A cut that is best with each cell on a device of its own is best on shared
  # devices too, if it fits there.
  if device_memory is None or _fits(problem, alone, device_memory):
    return BestCut(alone.positions, is_exact)
  search = CutSearch(problem, device_memory)
  cost = _least_shared_cost(search, cost, device_memory)
  if cost is None:
    return BestCut(None, not search.has_dropped)
  shared = _best_at_cost(search, cost, device_memory)
  return BestCut(shared.positions, is_exact and not search.has_dropped)


def spec_cut(layers: Sequence[LayerCost], spec: PipelineSpec) -> BestCut:
  """The best cut of layers for a spec, which is not FIT."""
  # What others call a schedule may come to be another one.
  is_lasting = spec.schedule in schedules.SCHEDULE_NAMES
  find = _spec_cut if is_lasting else _spec_cut.__wrapped__
  return find(tuple(layers), spec)


@functools.lru_cache(maxsize=4)
def _spec_cut(layers: tuple[LayerCost, ...], spec: PipelineSpec) -> BestCut:
  """The same; a plan that weighs policies asks for the same one often."""
  problem = spec_problem(layers, spec, cell_memory(layers, spec))
  return best_cut(problem, spec.device_memory)


def _least_largest_cost(
  search: CutSearch, device_memory: int | None
) -> int | None:
  """The least largest cost of a cut that fits, or None if none does.

  Each cell is taken by itself.
  """
  problem = search.problem
  if device_memory is not None and _is_too_much(problem, device_memory):
    return None
  bound = least_largest_cost(problem)
  # Any bound that some cut keeps to gives the least of all cuts; the tighter
  # it is, the fewer cells there are to look at.
  while (cuts := search.best([LARGEST_COST], bound, device_memory)) is None:
    if bound >= problem.total_cost:
      return None
    bound = min(bound + bound // 4 + 1, problem.total_cost)
  return cuts.values[0]


def _is_too_much(problem: CutProblem, device_memory: int) -> bool:
  """Whether it takes no search to see that no cut fits."""
  memory = problem.memory
  assert memory is not None
  return (
    memory.held_before[-1] > device_memory * problem.num_devices
    or not Windows(problem, problem.total_cost, device_memory).is_possible
  )


def _least_shared_cost(
  search: CutSearch, least: int, device_memory: int
) -> int | None:
  """The same where cells share devices; it is not below `least`."""
  problem = search.problem
  before, last = map(problem.cost_before, (0, problem.num_cells - 1))
  costs = np.union1d(before - before[:, None], last[-1] - last)
  costs = costs[costs >= least]

  def is_possible(cost: int) -> bool:
    return _any_fitting(search, int(cost), device_memory) is not None

  # The first is the likeliest.
  if search.best([], int(costs[0]), device_memory) is not None:
    return int(costs[0])
  if not is_possible(costs[-1]):
    return None
  return int(costs[bisect.bisect_left(costs, True, key=is_possible)])


def _best_at_cost(
  search: CutSearch, cost: int, cell_memory: int | None
) -> Cuts:
  """The fewest bytes, then the least memory, then the least squared costs."""
  smallest = search.best([CROSSING_BYTES, LARGEST_MEMORY], cost, cell_memory)
  if smallest is None:  # Only if ways were dropped.
    assert cell_memory is not None
    smallest = _any_fitting(search, cost, cell_memory)
    assert smallest is not None
    return smallest
  memory = smallest.values[-1]
  return search.best([CROSSING_BYTES, SQUARED_COST], cost, memory) or smallest


def least_memory_cut(problem: CutProblem) -> tuple[int, ...]:
  """The ends of the cells of the cut whose largest cell needs least."""
  search, bound = CutSearch(problem), least_largest_floor(problem)
  while True:
    cuts = search.best([LARGEST_MEMORY], problem.total_cost, bound)
    if cuts is not None:
      return cuts.positions
    bound += bound // 4 + 1


def any_cut_fits(problem: CutProblem, device_memory: int) -> bool:
  """Whether a cut is found that fits; see `best_cut`."""
  total = problem.total_cost
  if problem.num_devices == problem.num_cells:
    return CutSearch(problem).best([], total, device_memory) is not None
  search = CutSearch(problem, device_memory)
  return _any_fitting(search, total, device_memory) is not None


def _any_fitting(
  search: CutSearch, largest_cost: int, device_memory: int
) -> Cuts | None:
  """Some cut whose cells fit together on shared devices, or None."""
  # Even cells often do, and are found at once.
  alone = CutSearch(search.problem)
  even = alone.best([LARGEST_MEMORY], largest_cost, device_memory)
  if even is None or _fits(search.problem, even, device_memory):
    return even
  return search.best([], largest_cost, device_memory)


def _fits(problem: CutProblem, cuts: Cuts, device_memory: int) -> bool:
  """Whether no device needs more than `device_memory` bytes under a cut."""
  assert problem.memory is not None
  cells = problem.memory.of_cells(cuts.positions)
  needs = memory_model.device_bytes(cells, problem.cell_devices)
  return max(needs) <= device_memory
