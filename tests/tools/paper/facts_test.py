# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The published data agree with each other, so that a typing error shows."""

import pytest

from tools.paper.facts import TABLE_1, TABLES_2_AND_3
from tools.paper.throughput import ideal


@pytest.mark.parametrize('column', TABLE_1, ids=lambda column: column.name)
def test_both_memories_fill_the_devices_but_not_more(column):
  total = column.num_devices * column.device_gigabytes
  assert 0.75 * total < sum(column.memories) < total


@pytest.mark.parametrize('column', TABLE_1, ids=lambda column: column.name)
def test_parameter_memory_is_12_bytes_a_parameter_or_little_more(column):
  unit = 1e9 if column.family == 'AmoebaNet-D' else 2**30
  bytes_a_parameter = column.memories[0] * unit / column.parameters
  assert 11.7 < bytes_a_parameter < 13.8


def test_only_the_swapped_cells_are_off_by_a_factor_as_printed():
  for column in TABLE_1:
    printed = column.parameter_memory * 2**30 / column.parameters
    assert (printed > 20) == column.is_swapped


@pytest.mark.parametrize('half', TABLES_2_AND_3, ids=lambda half: half.name)
def test_throughputs_grow_with_devices_and_micro_batches(half):
  published = half.published
  assert published[half.reference] == 1
  for m, k in published:
    assert published[m, k] >= published.get((m, k // 2), 0)
    assert published[m, k] >= published.get((m // 8, k), 0)


@pytest.mark.parametrize('half', TABLES_2_AND_3, ids=lambda half: half.name)
def test_only_transformers_at_4_micro_batches_exceed_every_bound(half):
  """The batch was not the same in all cells of the table."""
  above = {
    (m, k)
    for (m, k), value in half.published.items()
    if m > 1 and value > ideal(m, k) / ideal(*half.reference)
  }
  assert above == (
    {(4, 2), (4, 4), (4, 8)} if half.name == 'Transformer-48' else set()
  )
