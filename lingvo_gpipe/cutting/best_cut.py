# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The best cut by the partitioner's criteria; see `partitioner.partition`.

Where cells share devices a better one may be missed, if there are more ways to
cut than can be compared, or values cross between cells of one device: the
search takes them to be on other devices.
"""

import bisect
import functools
from collections.abc import Sequence

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  PipelineSpec,
  Windows,
  least_largest_cost,
)
from lingvo_gpipe.cutting.cut_search import (
  CROSSING_BYTES,
  LARGEST_COST,
  LARGEST_MEMORY,
  SQUARED_COST,
  Cuts,
  CutSearch,
)


def spec_cut(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> tuple[int, ...] | None:
  """The ends of the cells of the best cut for a spec, which is not FIT."""
  # What users call a schedule may come to be another one.
  is_lasting = spec.schedule in schedules.SCHEDULE_NAMES
  find = _spec_cut if is_lasting else _spec_cut.__wrapped__
  return find(tuple(layers), spec)


@functools.lru_cache(maxsize=4)
def _spec_cut(
  layers: tuple[LayerCost, ...], spec: PipelineSpec
) -> tuple[int, ...] | None:
  problem, device_memory = CutProblem.of(layers, spec), spec.device_memory
  search = CutSearch(problem)
  cost = _least_largest_cost(search, device_memory)
  if cost is None:
    return None
  alone = _best_at_cost(search, cost, device_memory)
  # A cut that is best with each cell on a device of its own is best on shared
  # devices too, if it fits there.
  if device_memory is None or _fits(problem, alone, device_memory):
    return alone.positions
  search = CutSearch(problem, device_memory)
  cost = _least_shared_cost(search, cost, device_memory)
  if cost is None:
    return None
  return _best_at_cost(search, cost, device_memory).positions


def _least_largest_cost(
  search: CutSearch, device_memory: int | None
) -> int | None:
  """The least largest cost of a cut that fits, each cell taken by itself."""
  problem = search.problem
  if device_memory is not None and (
    problem.memory.held_before[-1] > device_memory * problem.num_devices
    or not Windows(problem, problem.total_cost, device_memory).is_possible
  ):
    return None
  bound = least_largest_cost(problem)
  # Any bound that some cut keeps to gives the least of all cuts; the tighter
  # it is, the fewer cells there are to look at.
  while (cuts := search.best([LARGEST_COST], bound, device_memory)) is None:
    if bound >= problem.total_cost:
      return None
    bound = min(bound + bound // 4 + 1, problem.total_cost)
  return cuts.values[0]


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


def any_cut_fits(problem: CutProblem, device_memory: int) -> bool:
  total = problem.total_cost
  if problem.num_devices == problem.num_cells:
    return CutSearch(problem).best([], total, device_memory) is not None
  search = CutSearch(problem, device_memory)
  return _any_fitting(search, total, device_memory) is not None


def _any_fitting(
  search: CutSearch, largest_cost: int, device_memory: int
) -> Cuts | None:
  # Even cells often do, and are found at once.
  alone = CutSearch(search.problem)
  even = alone.best([LARGEST_MEMORY], largest_cost, device_memory)
  if even is None or _fits(search.problem, even, device_memory):
    return even
  return search.best([], largest_cost, device_memory)


def _fits(problem: CutProblem, cuts: Cuts, device_memory: int) -> bool:
  cells = problem.memory.of_cells(cuts.positions)
  needs = memory_model.device_bytes(cells, problem.cell_devices)
  return max(needs) <= device_memory


def least_memory_cut(problem: CutProblem) -> tuple[int, ...]:
  """The ends of the cells of the cut whose largest cell needs least."""
  search = CutSearch(problem)
  bound = int(problem.memory.floor_before[-1]) // problem.num_cells
  while True:
    cuts = search.best([LARGEST_MEMORY], problem.total_cost, bound)
    if cuts is not None:
      return cuts.positions
    bound += bound // 4 + 1
