# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.planner import size_fit


def _layer(width):
  return LayerCost(
    'a',
    forward=7 * width**2 + width + 3,
    backward=14 * width**2,
    parameters=9 * width**2 + 2 * width + 10,
    weight_bytes=4 * (9 * width**2 + 2 * width + 10),
    optimizer_bytes=8 * (9 * width**2 + 2 * width + 10),
    activation_bytes=100 * width + 5,
    output_bytes=40 * width,
  )


def test_three_widths_tell_all_others_exactly():
  known = {width: _layer(width) for width in (32, 64, 96)}
  for width in (32, 8, 512, 4096):
    found = size_fit.at_width(known, width)
    expected = _layer(width)
    assert found.gradient_sum_bytes == expected.gradient_sum_bytes
    for name in (
      'forward', 'backward', 'parameters', 'weight_bytes', 'optimizer_bytes',
      'activation_bytes', 'output_bytes',
    ):  # fmt: skip
      assert getattr(found, name) == getattr(expected, name), (width, name)


@pytest.mark.parametrize('limit', [*range(12), 49, 50, 51, 99, 100, 1000])
def test_the_largest_size_is_found_with_few_questions(limit):
  sizes = range(1, 101)
  asked = []

  def fits(size):
    asked.append(size)
    return size <= limit

  found = size_fit.largest(sizes, fits)
  assert found == (min(limit, 100) or None)
  assert len(asked) <= 14
  # Sizes much too large are slow to ask for.
  assert max(asked) <= max(4 * limit, 1)
