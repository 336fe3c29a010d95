# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which cut is best, by the partitioner's criteria in order.

1. The least cost of the largest cell, among cuts whose devices' memory fits.
2. The fewest bytes across boundaries.
3. The least memory of the largest cell, each cell taken by itself.
4. The least sum of squared costs of the cells.
"""

import dataclasses

from lingvo_gpipe.cutting import shared_device_search
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  Cuts,
  Windows,
  least_largest_cost,
  least_largest_floor,
)
from lingvo_gpipe.cutting.cut_search import (
  CROSSING_BYTES,
  LARGEST_COST,
  LARGEST_MEMORY,
  SQUARED_COST,
  best_cuts,
)
from lingvo_gpipe.cutting.even_cut_search import best_even_cuts

# Above so many cells to look at it pays to guess the memory first.
_MANY_CANDIDATES = 10_000_000


@dataclasses.dataclass(frozen=True)
class SearchResult:
  """What was found.

  Attributes:
    positions: The ends of the best cut's cells, or None if no cut fits.
    is_proven: Whether every other cut was ruled out. Only a search for cells
      that share devices can end without a proof: under a tight memory limit,
      or with skips, which it counts even if both ends are on one device.
  """

  positions: tuple[int, ...] | None
  is_proven: bool


def best_cut(
  problem: CutProblem, num_devices: int, device_memory: int | None
) -> SearchResult:
  """Finds the best cut.

  Args:
    problem: The layers.
    num_devices: D; cell k lies on device k mod D.
    device_memory: Bytes that a device may hold; None for no limit.
  """
  if problem.memory is None:
    assert problem.skips is None
    even = best_even_cuts(problem, least_largest_cost(problem))
    return SearchResult(even.positions, True)
  alone = _search_apart(problem, device_memory)
  if alone is None:
    return SearchResult(None, True)
  share_devices = num_devices < problem.num_cells
  is_exact = problem.skips is None or not share_devices
  if device_memory is None:
    return SearchResult(alone.positions, is_exact)
  # A cut that is best with each cell on a device of its own is best on shared
  # devices too, if it fits there.
  if shared_device_search.fits(
    problem, alone.positions, num_devices, device_memory
  ):
    return SearchResult(alone.positions, is_exact)
  shared = shared_device_search.SharedDeviceSearch(
    problem, num_devices, device_memory
  )
  cuts = shared.best()
  positions = None if cuts is None else cuts.positions
  return SearchResult(
    positions, not shared.has_dropped and (is_exact or positions is None)
  )


def _search_apart(problem: CutProblem, cell_memory: int | None) -> Cuts | None:
  """The best cut if every cell has a device to itself."""
  largest_cost = _least_fitting_cost(problem, cell_memory)
  if largest_cost is None:
    return None
  largest_memory = _least_memory(problem, largest_cost, cell_memory)
  return best_cuts(
    problem, [CROSSING_BYTES, SQUARED_COST], largest_cost, largest_memory
  )


def _least_fitting_cost(
  problem: CutProblem, cell_memory: int | None
) -> int | None:
  """The least largest cost of a cut that fits, or None if none does."""
  bound = least_largest_cost(problem)
  if cell_memory is None:
    return bound
  while True:
    # Any bound that some cut keeps to gives the least of all cuts; the
    # tighter it is, the fewer cells there are to look at.
    cuts = best_cuts(problem, [LARGEST_COST], bound, cell_memory)
    if cuts is not None:
      return cuts.values[0]
    if bound >= problem.total_cost:
      return None
    bound = min(bound + bound // 4 + 1, problem.total_cost)


def _least_memory(
  problem: CutProblem, largest_cost: int, cell_memory: int | None
) -> int:
  """The least memory of the largest cell, at the fewest bytes that cross."""
  criteria = [CROSSING_BYTES, LARGEST_MEMORY]
  windows = Windows(problem, largest_cost, cell_memory)
  if windows.num_candidates > _MANY_CANDIDATES:
    fewest_bytes = _fewest_bytes(problem, largest_cost)
    bound = least_largest_floor(problem) + 1
    while cell_memory is None or bound < cell_memory:
      if Windows(problem, largest_cost, bound).num_candidates * 2 > (
        windows.num_candidates
      ):
        break
      cuts = best_cuts(problem, criteria, largest_cost, bound)
      if cuts is not None and cuts.values[0] == fewest_bytes:
        return cuts.values[1]
      bound += bound // 4 + 1
  cuts = best_cuts(problem, criteria, largest_cost, cell_memory)
  assert cuts is not None
  return cuts.values[1]


def _fewest_bytes(problem: CutProblem, largest_cost: int) -> int:
  """The fewest bytes that cross if memory does not matter."""
  if problem.skips is None:
    return best_even_cuts(problem, largest_cost).values[0]
  cuts = best_cuts(problem, [CROSSING_BYTES], largest_cost)
  assert cuts is not None
  return cuts.values[0]
