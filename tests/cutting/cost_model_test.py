# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of what layers cost."""

import random
from fractions import Fraction

import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost, prefix_sums, to_integers


def test_integers_stay_as_they_are():
  assert to_integers([3, 0, 2**59]) == [3, 0, 2**59]
  assert to_integers([1e15, 2.0]) == [10**15, 2]


def test_fractions_get_a_common_denominator():
  assert to_integers([Fraction(1, 3), Fraction(1, 2), 1]) == [2, 3, 6]
  assert to_integers([0.5, 0.25]) == [2, 1]


def test_large_sums_are_rounded_to_sixty_bits():
  rng = random.Random(1)
  for scale in (1e-300, 1e-3, 1e30, 1e300):
    costs = [rng.random() * scale for _ in range(50)]
    integers = to_integers(costs)
    total = sum(map(Fraction, costs))
    assert 2**58 <= sum(integers) < 2**61
    for cost, integer in zip(costs, integers, strict=True):
      error = Fraction(cost) / total - Fraction(integer, sum(integers))
      assert abs(error) < Fraction(1, 2**53)


def test_equal_costs_give_equal_integers():
  integers = to_integers([0.1, 1e9, 0.1, 1e-9, 0.1])
  assert integers[0] == integers[2] == integers[4]


@pytest.mark.parametrize('cost', [-1, float('nan'), float('inf')])
def test_impossible_costs_are_named(cost):
  with pytest.raises(ValueError, match=f'Cost 2 is {cost}'):
    to_integers([0, 1, cost])


def test_prefix_sums_start_at_zero():
  assert prefix_sums([1, 2, 3]) == [0, 1, 3, 6]
  assert prefix_sums([]) == [0]


def test_time_counts_what_is_recomputed():
  layer = LayerCost('layer', forward=3, backward=5)
  assert layer.time(0, 4) == 8
  assert layer.time(4, 4) == 11
  assert layer.time(3, 4) == 8 + 3 * Fraction(3, 4)


def test_gradients_are_as_large_as_weights_unless_said():
  assert LayerCost('a', weight_bytes=10, optimizer_bytes=7).state_bytes == 27
  layer = LayerCost('a', weight_bytes=10, gradient_bytes=20, optimizer_bytes=7)
  assert layer.state_bytes == 37


@pytest.mark.parametrize('field', ['forward', 'weight_bytes', 'output_bytes'])
def test_negative_numbers_are_refused_by_name(field):
  with pytest.raises(ValueError, match=f"{field} of layer 'conv' is -1"):
    LayerCost('conv', **{field: -1})
