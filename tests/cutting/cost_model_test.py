# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import random
from fractions import Fraction

import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost, to_integers


def test_numbers_get_a_common_denominator():
  assert to_integers([3, 0, 2**59]) == [3, 0, 2**59]
  assert to_integers([1e15, 2.0]) == [10**15, 2]
  assert to_integers([Fraction(1, 3), Fraction(1, 2), 1]) == [2, 3, 6]


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


@pytest.mark.parametrize('field', ['forward', 'weight_bytes', 'output_bytes'])
def test_negative_numbers_are_refused_by_name(field):
  with pytest.raises(ValueError, match=f"{field} of layer 'conv' is -1"):
    LayerCost('conv', **{field: -1})
