# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import planner_testing
import pytest

from lingvo_gpipe.planner import largest, recommend
from lingvo_gpipe.planner.forecast import forecast

_K = 2


def _work(length, width):
  """Layers with so many weights times the square of the width."""
  work = planner_testing.workload(length)
  factor = max(width, 1) ** 2
  return dataclasses.replace(
    work,
    name=f'toy({length}, {width})',
    layers=tuple(
      dataclasses.replace(
        layer,
        parameters=layer.parameters * factor,
        weight_bytes=layer.weight_bytes * factor,
        optimizer_bytes=layer.optimizer_bytes * factor,
      )
      for layer in work.layers
    ),
  )


def _ways(work):
  return recommend.settings(work, _K, micro_batches=[8])


def _fits(length, width, memory):
  work = _work(length, width)
  return any(
    forecast(work, way, None, memory).fits
    for way in _ways(work)
    if way.num_cells <= length
  )


@pytest.fixture(scope='module')
def search():
  return largest.Search(_work, _ways, 40_000)


def test_the_widest_of_each_length_fits_and_one_step_wider_does_not(search):
  result = search.widest([2, 4, 8, 200], range(1, 40))
  assert [one.length for one in result] == [2, 4, 8]
  for one in result:
    assert _fits(one.length, one.width, 40_000)
    assert not _fits(one.length, one.width + 1, 40_000)
    assert one.forecast.fits
  best = largest.largest_of(result)
  assert best.workload.parameters == max(
    one.workload.parameters for one in result
  )


def test_the_longest_fits_and_one_layer_more_does_not(search):
  (result,) = search.longest(range(2, 500))
  assert _fits(result.length, 0, 40_000)
  assert not _fits(result.length + 1, 0, 40_000)
  text = largest.as_text([result])
  assert result.workload.name in text
  assert str(result.forecast.setting) in text


def test_if_nothing_fits_nothing_is_found():
  search = largest.Search(_work, _ways, 100)
  assert search.longest(range(2, 50)) == []
  assert search.widest([2, 4], range(1, 10)) == []


@pytest.mark.parametrize('limit', [*range(12), 49, 50, 51, 99, 100, 1000])
def test_the_largest_size_is_found_with_few_questions(limit):
  sizes = range(1, 101)
  asked = []

  def fits(size):
    asked.append(size)
    return size <= limit

  result = largest.largest_that_fits(sizes, fits)
  assert result == (min(limit, 100) or None)
  assert len(asked) <= 14
  # Sizes much too large are slow to ask for.
  assert max(asked) <= max(4 * limit, 1)
