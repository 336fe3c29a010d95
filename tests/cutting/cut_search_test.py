# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the search for cuts, besides those of the partitioner."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from lingvo_gpipe.cutting import cut_problem, cut_search, partitioner
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import (
  CutProblem,
  PipelineSpec,
  Windows,
  least_largest_cost,
)
from lingvo_gpipe.cutting.cut_search import CutSearch
from lingvo_gpipe.cutting.memory_model import device_bytes


def _every_cut(num_layers, num_cells):
  for inner in itertools.combinations(range(1, num_layers), num_cells - 1):
    yield (0, *inner, num_layers)


def _largest_cost(problem, positions):
  return max(
    int(problem.cost(k, start, end))
    for k, (start, end) in enumerate(itertools.pairwise(positions))
  )


def test_windows_hold_all_positions_of_cuts_within_the_bound():
  rng = random.Random(2)
  for _ in range(300):
    num_layers = rng.randint(1, 8)
    num_cells = rng.randint(1, num_layers)
    costs = [rng.choice([0, 1, 2, 5]) for _ in range(num_layers)]
    # In half of the cases layers cost less in the last cell.
    last = [rng.randint(0, cost) for cost in costs]
    problem = CutProblem(
      costs, num_cells, last_costs=last if rng.random() < 0.5 else None
    )
    bound = rng.randint(1, 12)
    windows = Windows(problem, bound)
    every = list(_every_cut(num_layers, num_cells))
    cuts = [cut for cut in every if _largest_cost(problem, cut) <= bound]
    assert windows.is_possible == bool(cuts)
    for k in range(num_cells + 1) if cuts else ():
      # Every position in a window is part of some cut.
      assert {positions[k] for positions in cuts} == set(
        range(windows.first[k], windows.last[k] + 1)
      )
    assert least_largest_cost(problem) == min(
      _largest_cost(problem, positions) for positions in every
    )


# -- Balance.


def _random_costs(rng, num_layers):
  choose = rng.choice(
    [
      lambda: rng.randint(0, 9),
      lambda: rng.choice([0, 0, 1, 50]),
      lambda: Fraction(rng.randint(0, 20), 8),
      lambda: rng.choice([0.1, 0.3]),
    ]
  )
  return [choose() for _ in range(num_layers)]


def test_balance_is_as_good_as_any_cut():
  rng = random.Random(1)
  for _ in range(500):
    num_layers = rng.randint(1, 9)
    num_cells = rng.randint(1, min(5, num_layers))
    costs = _random_costs(rng, num_layers)
    exact = list(map(Fraction, costs))
    if not any(exact):
      exact = [Fraction(1)] * num_layers

    def value(positions, exact=exact):
      cells = [sum(exact[a:b]) for a, b in itertools.pairwise(positions)]
      # Of equal floats the sums are equal, of different ones they may differ
      # by rounding.
      return float(max(cells)), float(sum(cell**2 for cell in cells))

    sizes = partitioner.balance(costs, num_cells)
    assert len(sizes) == num_cells
    assert min(sizes) >= 1
    positions = list(itertools.accumulate(sizes, initial=0))
    assert positions[-1] == num_layers
    best = min(map(value, _every_cut(num_layers, num_cells)))
    assert value(positions) == pytest.approx(best, rel=1e-7)
    assert value(positions)[0] == pytest.approx(best[0], rel=1e-15)


@pytest.mark.parametrize(
  ('costs', 'num_cells', 'sizes'),
  [
    ([1, 2, 3, 4, 5], 3, [3, 1, 1]),
    # A large layer does not spoil the other cells.
    ([100] + [1] * 9, 4, [1, 3, 3, 3]),
    ([0, 0, 0, 0], 2, [2, 2]),
    ([10**30, 10**30, 1, 1], 2, [1, 3]),
    ([1e-300, 1e-300, 1e-300], 3, [1, 1, 1]),
    ([5e-324, 1e300], 2, [1, 1]),
  ],
)
def test_balance_of_extreme_costs(costs, num_cells, sizes):
  assert partitioner.balance(costs, num_cells) == sizes


def test_equal_floats_are_cut_like_equal_integers():
  for num_layers, num_cells in [(10, 3), (100, 7), (1663, 128)]:
    assert partitioner.balance(
      [0.1] * num_layers, num_cells
    ) == partitioner.balance([1] * num_layers, num_cells)


@pytest.mark.parametrize(
  ('costs', 'num_cells', 'message'),
  [
    ([1, 1, 1], 0, '3 layers.*0 cells'),
    ([1, 1, 1], 4, '3 layers.*4 cells'),
    ([1, -1], 1, 'Cost 1 is -1'),
    ([1, float('nan')], 1, 'Cost 1 is nan'),
  ],
)
def test_what_cannot_be_balanced_is_refused(costs, num_cells, message):
  with pytest.raises(ValueError, match=message):
    partitioner.balance(costs, num_cells)


# -- Cells that share devices.


def _random_problem(rng):
  spec = PipelineSpec(
    num_devices=rng.randint(2, 3),
    cells_per_device=2,
    num_micro_batches=3,
    schedule=rng.choice(['gpipe', '1f1b', 'interleaved_1f1b']),
  )
  layers = [
    LayerCost(
      f'layer{i}',
      forward=rng.randint(1, 9),
      weight_bytes=rng.randint(0, 20),
      activation_bytes=rng.randint(0, 9),
      transient_bytes=rng.randint(0, 9),
      output_bytes=rng.randint(0, 5),
    )
    for i in range(rng.randint(8, 14))
  ]
  memory = cut_problem.cell_memory(layers, spec)
  return cut_problem.spec_problem(layers, spec, memory)


def test_a_search_with_little_room_finds_cuts_that_fit_and_admits_it(
  monkeypatch,
):
  rng = random.Random(1)
  num_found = num_dropped = 0
  for _ in range(100):
    problem, limit = _random_problem(rng), rng.randint(100, 260)
    exact = cut_search.best_cut(problem, limit)
    assert exact.is_proven
    with monkeypatch.context() as patch:
      patch.setattr(
        cut_search, 'CutSearch', lambda *args: CutSearch(*args, max_ways=1)
      )
      hurried = cut_search.best_cut(problem, limit)
    num_dropped += not hurried.is_proven
    if hurried.positions is None:
      assert exact.positions is None or not hurried.is_proven
      continue
    num_found += 1
    needs = problem.memory.of_cells(hurried.positions)
    assert max(device_bytes(needs, problem.cell_devices)) <= limit
    costs = [_largest_cost(problem, cut.positions) for cut in (exact, hurried)]
    assert costs[0] <= costs[1]
    assert not hurried.is_proven or costs[0] == costs[1]
  assert num_found > 30
  assert num_dropped > 15


def test_coarse_costs_leave_room_for_squares():
  problem = CutProblem([0.3, 0.1, 10.0, 0.3], 2)
  squares = problem.squared_cost(0, np.arange(4), np.arange(1, 5))
  assert squares[0] == squares[3]
  assert int(problem.squared_cost(0, 0, 4)) < 2**62
  np.testing.assert_allclose(
    np.sqrt(squares / squares.max()), [0.03, 0.01, 1, 0.03], rtol=1e-6
  )
