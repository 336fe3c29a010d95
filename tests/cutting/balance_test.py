# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools
import random
from fractions import Fraction

import pytest

from lingvo_gpipe.cutting import partitioner


def _every_cut(num_layers, num_cells):
  for inner in itertools.combinations(range(1, num_layers), num_cells - 1):
    yield (0, *inner, num_layers)


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
    ([1, float('inf')], 1, 'Cost 1 is inf'),
  ],
)
def test_what_cannot_be_balanced_is_refused(costs, num_cells, message):
  with pytest.raises(ValueError, match=message):
    partitioner.balance(costs, num_cells)
