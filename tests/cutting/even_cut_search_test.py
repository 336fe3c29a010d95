# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of cutting layers into even cells."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from lingvo_gpipe.cutting import cut_problem, even_cut_search, partitioner
from lingvo_gpipe.cutting.cut_search import (
  CROSSING_BYTES,
  SQUARED_COST,
  best_cuts,
)


def _all_positions(num_layers, num_cells):
  for inner in itertools.combinations(range(1, num_layers), num_cells - 1):
    yield (0, *inner, num_layers)


def _random_costs(rng, num_layers):
  kind = rng.randrange(4)
  if kind == 0:
    return [rng.randint(0, 9) for _ in range(num_layers)]
  if kind == 1:
    return [rng.choice([0, 0, 1, 50]) for _ in range(num_layers)]
  if kind == 2:
    return [Fraction(rng.randint(0, 20), 8) for _ in range(num_layers)]
  return [rng.choice([0.1, 0.3]) for _ in range(num_layers)]


def test_balance_is_as_good_as_any_cut():
  rng = random.Random(1)
  for _ in range(2000):
    num_layers = rng.randint(1, 10)
    num_cells = rng.randint(1, min(5, num_layers))
    costs = _random_costs(rng, num_layers)
    exact = [Fraction(cost) for cost in costs]
    if not any(exact):
      exact = [Fraction(1)] * num_layers

    def value(sizes, exact=exact):
      ends = list(itertools.accumulate(sizes, initial=0))
      cells = [sum(exact[a:b]) for a, b in itertools.pairwise(ends)]
      # Of equal floats the sums are equal, of different ones they may differ
      # by rounding.
      return float(max(cells)), float(sum(cell**2 for cell in cells))

    sizes = partitioner.balance(costs, num_cells)
    assert len(sizes) == num_cells
    assert sum(sizes) == num_layers
    assert min(sizes) >= 1
    best = min(
      value(np.diff(positions))
      for positions in _all_positions(num_layers, num_cells)
    )
    assert value(sizes) == pytest.approx(best, rel=1e-7)
    assert value(sizes)[0] == pytest.approx(best[0], rel=1e-15)


def test_even_search_agrees_with_the_search_that_looks_at_all_cells():
  rng = random.Random(2)
  for _ in range(300):
    num_layers = rng.randint(1, 60)
    num_cells = rng.randint(1, num_layers)
    costs = _random_costs(rng, num_layers)
    last = [cost * Fraction(rng.randint(1, 4), 4) for cost in costs]
    problem = cut_problem.cut_problem(
      costs,
      num_cells,
      [0] + [rng.randint(0, 5) for _ in range(num_layers)],
      last_costs=last if rng.random() < 0.5 else None,
    )
    bound = cut_problem.least_largest_cost(problem) + rng.randint(0, 9)
    assert even_cut_search.best_even_cuts(problem, bound) == best_cuts(
      problem, [CROSSING_BYTES, SQUARED_COST], bound
    )


def test_equal_floats_are_cut_like_equal_integers():
  for num_layers, num_cells in [(10, 3), (100, 7), (1663, 128)]:
    assert partitioner.balance(
      [0.1] * num_layers, num_cells
    ) == partitioner.balance([1] * num_layers, num_cells)


def test_a_large_layer_does_not_spoil_the_other_cells():
  assert partitioner.balance([100] + [1] * 9, 4) == [1, 3, 3, 3]
  assert partitioner.balance([0, 0, 0, 0], 2) == [2, 2]


def test_huge_and_tiny_costs_are_fine():
  assert partitioner.balance([10**30, 10**30, 1, 1], 2) == [1, 3]
  assert partitioner.balance([1e-300, 1e-300, 1e-300], 3) == [1, 1, 1]
  assert partitioner.balance([5e-324, 1e300], 2) == [1, 1]


@pytest.mark.parametrize('num_cells', [0, 4])
def test_a_cell_without_a_layer_is_refused(num_cells):
  with pytest.raises(ValueError, match=f'3 layers.*{num_cells} cells'):
    partitioner.balance([1, 1, 1], num_cells)


@pytest.mark.parametrize('cost', [-1, float('nan'), float('inf')])
def test_bad_costs_are_named(cost):
  with pytest.raises(ValueError, match=f'Cost 1 is {cost}'):
    partitioner.balance([1, cost], 1)
