# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of layers as numbers, and of what bounds leave possible."""

import itertools
import random

import numpy as np

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import (
  Windows,
  cut_problem,
  least_largest_cost,
  least_largest_floor,
)
from lingvo_gpipe.cutting.memory_model import CellMemory


def _cuts(num_layers, num_cells):
  for inner in itertools.combinations(range(1, num_layers), num_cells - 1):
    yield (0, *inner, num_layers)


def _largest(problem, positions):
  return max(
    int(problem.costs_before(k)[end] - problem.costs_before(k)[start])
    for k, (start, end) in enumerate(itertools.pairwise(positions))
  )


def _problem(rng, costs, num_cells):
  """In half of the cases layers cost less in the last cell."""
  last = [rng.randint(0, cost) for cost in costs]
  return cut_problem(
    costs, num_cells, last_costs=last if rng.random() < 0.5 else None
  )


def test_the_least_largest_cost_is_that_of_the_best_cut():
  rng = random.Random(1)
  for _ in range(300):
    num_layers = rng.randint(1, 9)
    num_cells = rng.randint(1, num_layers)
    problem = _problem(
      rng, [rng.choice([0, 1, 2, 30]) for _ in range(num_layers)], num_cells
    )
    assert least_largest_cost(problem) == min(
      _largest(problem, positions) for positions in _cuts(num_layers, num_cells)
    )


def test_windows_hold_all_positions_of_cuts_within_the_bound():
  rng = random.Random(2)
  for _ in range(200):
    num_layers = rng.randint(1, 8)
    num_cells = rng.randint(1, num_layers)
    problem = _problem(
      rng, [rng.randint(0, 5) for _ in range(num_layers)], num_cells
    )
    bound = rng.randint(1, 12)
    windows = Windows(problem, bound)
    cuts = [
      positions
      for positions in _cuts(num_layers, num_cells)
      if _largest(problem, positions) <= bound
    ]
    assert windows.is_possible == bool(cuts)
    for k in range(num_cells + 1) if cuts else ():
      # Every position in a window is part of some cut.
      assert {positions[k] for positions in cuts} == set(
        range(windows.first[k], windows.last[k] + 1)
      )


def test_several_ends_and_starts_are_found_like_one():
  problem = cut_problem(
    [3, 0, 1, 4, 2, 0, 5], 3, last_costs=[2, 0, 1, 3, 2, 0, 4]
  )
  windows = Windows(problem, 6)
  positions = np.arange(8)
  for cell in (0, 2):
    assert list(windows.earliest_starts(cell, positions)) == [
      windows.earliest_start(cell, position) for position in range(8)
    ]
    assert list(windows.furthest_ends(cell, positions)) == [
      windows.furthest_end(cell, position) for position in range(8)
    ]


def test_the_least_floor_is_below_any_cut():
  layers = [LayerCost(f'{w}', weight_bytes=w) for w in (5, 1, 1, 4, 4)]
  memory = CellMemory(layers, [1, 1], 'always')
  problem = cut_problem([1] * 5, 2, memory=memory)
  # 5 + 1 + 1 against 4 + 4, with gradients as large as the weights.
  assert least_largest_floor(problem) == 16


def test_costs_without_any_are_counted_as_layers():
  assert list(cut_problem([0, 0, 0], 1).cost_before) == [0, 1, 2, 3]


def test_coarse_costs_leave_room_for_squares():
  problem = cut_problem([0.3, 0.1, 10.0, 0.3], 1)
  coarse = np.diff(problem.coarse_before)
  assert coarse[0] == coarse[3]
  assert int(problem.coarse_before[-1]) ** 2 < 2**62
  np.testing.assert_allclose(
    coarse / coarse.sum(), np.array([0.3, 0.1, 10, 0.3]) / 10.7, rtol=1e-6
  )
