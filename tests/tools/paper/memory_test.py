# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 1's rows on stated costs: nothing is traced."""

import dataclasses

import pytest
from stated_costs import equal_layers

from tools.paper import memory
from tools.paper.facts import LargestModel

_GB = 10**9


def _column(setting='Pipeline-2', memories=(1.2, 1.0), **changes):
  column = LargestModel(
    *('Stated', 'Stated-4', 'a.Stated4', 128, 8, setting, 1e8, *memories)
  )
  return dataclasses.replace(column, **changes)


def test_a_pipeline_stashes_all_inputs_and_makes_one_micro_batch_anew():
  costs = equal_layers(4, examples=8, output_bytes=50)
  row = memory.memory_row(_column(), costs, 'GB')
  # 128 examples: 100 bytes into the first cell, 50 into the second.
  assert row.stash_bytes == 128 * (100 + 50)
  # Micro-batches of 128 / 32 = 4 examples, 600 bytes a layer and example.
  assert row.activation_bytes == 4 * 4 * 600
  assert row.gradient_bytes == 4 * 4000
  assert row.parameters == 4000
  # Weights, two slots, sums of gradients and the newest ones.
  assert row.state_bytes == 20 * 4000


def test_without_a_pipeline_the_mini_batch_keeps_all_activations():
  costs = equal_layers(4, examples=8, output_bytes=50)
  row = memory.memory_row(_column('Naive-1'), costs, 'GB')
  assert row.stash_bytes == 0
  assert row.activation_bytes == 128 * (100 + 4 * 600)
  assert row.state_bytes == 16 * 4000


def test_memories_are_in_the_papers_unit():
  row = memory.MemoryRow(
    *(_column(), 'GB', 10**8, 0, _GB // 10, _GB // 2, 0), steps=()
  )
  assert row.memories == pytest.approx((1.2, 0.1 + 0.5 + 0.4))
  in_gib = dataclasses.replace(row, unit='GiB')
  assert in_gib.memories[0] == pytest.approx(1.2 * _GB / 2**30)


def test_each_family_has_the_unit_in_which_12_bytes_fit_best():
  in_gb = [_column(model=f'a.{i}', family='A') for i in range(3)]
  memories = 1.2 * _GB / 2**30, 1.0
  in_gib = [
    _column(memories=memories, model=f'b.{i}', family='B') for i in range(3)
  ]
  # One column that fits neither does not decide.
  odd = _column(memories=(9, 1), model='a.3', family='A')
  table = [*in_gb, odd, *in_gib]
  units = memory.family_units({column.model: 10**8 for column in table}, table)
  assert units == {'A': 'GB', 'B': 'GiB'}


def test_what_fits_beside_is_kept_and_saves_time():
  costs = equal_layers(4, examples=8, output_bytes=50)
  row = memory.memory_row(_column(), costs, 'GB')
  fill_drain, always, fit = row.steps
  assert fit < always < 1
  assert fit <= fill_drain <= 1
  assert memory.memory_row(_column('Naive-1'), costs, 'GB').steps == ()
