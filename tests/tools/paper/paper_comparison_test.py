# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Published throughputs beside simulated ones, and what explains them."""

import dataclasses
import functools

import pytest
from stated_costs import equal_layers

from tools.paper import paper_comparison
from tools.paper.paper_facts import Device, Throughputs
from tools.paper.paper_throughput import ALTERNATIVES, AS_STATED

_DEVICE = Device(
  'stated',
  flops=1e12,
  memory_bandwidth=1e18,
  link_bandwidth=1e18,
  memory=10**9,
  sources='',
)
_HALF = Throughputs(
  'Table 2',
  'Stated-8',
  'a.Stated8',
  32,
  'float32',
  _DEVICE,
  {(1, 2): 1.0, (4, 2): 1.6, (32, 4): 3.0},
)
_KEPT = 'nothing recomputed at M = 1'


@functools.cache
def _rows():
  return paper_comparison.throughput_rows(_HALF, equal_layers(8))


def _row(published, simulated, **fields):
  """The last row, with throughputs of one's own."""
  names = [other.name for other in ALTERNATIVES]
  return dataclasses.replace(
    _rows()[-1],
    published=published,
    simulated={name: simulated.get(name, 1.0) for name in names},
    **fields,
  )


def test_rows_are_in_the_tables_order_and_relative_to_its_first():
  rows = _rows()
  assert [(row.num_micro_batches, row.num_cells) for row in rows] == [
    (1, 2),
    (4, 2),
    (32, 4),
  ]
  assert all(value == 1 for value in rows[0].simulated.values())
  # Equal cells: the bound is reached, 1.6 and 3.66 times the first.
  assert rows[1].stated == pytest.approx(rows[1].bound) == pytest.approx(1.6)
  assert rows[2].stated == pytest.approx(rows[2].bound)
  assert rows[2].difference == pytest.approx(rows[2].bound / 3 - 1)


def test_recomputing_nothing_alone_makes_the_reference_faster():
  # Three quarters of the time, so others gain three quarters as much.
  row = _rows()[1]
  assert row.simulated[_KEPT] == pytest.approx(0.75 * row.stated)


def test_assumptions_on_one_micro_batch_are_left_out_where_there_is_none():
  half = dataclasses.replace(_HALF, published={(32, 2): 1.0, (32, 4): 1.8})
  names = {other.name for other in paper_comparison.alternatives(half)}
  assert AS_STATED.name in names
  assert not any('M = 1' in name for name in names)
  assert len(paper_comparison.alternatives(_HALF)) == len(ALTERNATIVES) - 1


def test_only_bfloat16_can_be_taken_for_float32():
  for precision, expected in (('float32', False), ('bfloat16', True)):
    half = dataclasses.replace(_HALF, precision=precision)
    found = any(other.doubled for other in paper_comparison.alternatives(half))
    assert found == expected


def test_the_mean_difference_is_a_factor_in_either_direction():
  rows = [
    _rows()[0],
    _row(2.0, {AS_STATED.name: 1.0}),
    _row(1.0, {AS_STATED.name: 2.0}),
  ]
  found = paper_comparison.mean_difference(rows, AS_STATED.name)
  assert found == pytest.approx(1.0)


@pytest.mark.parametrize(
  ('published', 'simulated', 'said'),
  [
    (2.0, {AS_STATED.name: 2.1}, 'agrees'),
    (2.0, {AS_STATED.name: 3.0, _KEPT: 2.1}, f'agrees with "{_KEPT}" (2.10)'),
    (2.0, {AS_STATED.name: 3.0}, 'not explained; it lies between'),
    (0.5, {AS_STATED.name: 3.0}, 'not explained; nearest is'),
    (3.9, {AS_STATED.name: 3.0}, 'above the bound of 3.66'),
  ],
)
def test_a_difference_is_explained_only_by_assumptions_within_a_tenth(
  published, simulated, said
):
  assert paper_comparison.explain(_row(published, simulated)).startswith(said)


def test_what_no_pipeline_of_one_batch_reaches_is_put_down_to_the_batch():
  row = _row(5.0, {})
  grown = dataclasses.replace(
    row, step=dataclasses.replace(row.step, fitting_examples=10**9)
  )
  assert 'it may have grown' in paper_comparison.explain(grown)
  shrunk = dataclasses.replace(
    row, step=dataclasses.replace(row.step, fitting_examples=0)
  )
  assert 'a smaller one' in paper_comparison.explain(shrunk)


def test_the_reference_needs_no_explanation():
  assert paper_comparison.explain(_rows()[0]) == 'the reference'
