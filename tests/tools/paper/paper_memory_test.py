# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 1's rows on stated costs: nothing is traced."""

import dataclasses

import pytest
from stated_costs import equal_layers

from tools.paper import paper_memory
from tools.paper.paper_facts import LargestModel

_GB = 10**9


def _column(setting='Pipeline-2', memories=(1.2, 1.0), **others):
  return LargestModel(
    family='Stated',
    name='Stated-4',
    model='a.Stated4',
    setting=setting,
    num_devices=int(setting.split('-')[1]),
    mini_batch=128,
    device_gigabytes=8,
    parameters=1e8,
    parameter_memory=memories[0],
    activation_memory=memories[1],
    **others,
  )


def _row(**fields):
  row = paper_memory.MemoryRow(
    published=_column(),
    unit='GB',
    parameters=10**8,
    state_bytes=0,
    stash_bytes=_GB // 10,
    activation_bytes=_GB // 2,
  )
  return dataclasses.replace(row, **fields)


def test_a_pipeline_stashes_all_inputs_and_makes_one_micro_batch_anew():
  costs = equal_layers(4, examples=8, output_bytes=50)
  row = paper_memory.memory_row(_column(), costs, 'GB')
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
  row = paper_memory.memory_row(_column('Naive-1'), costs, 'GB')
  assert row.stash_bytes == 0
  assert row.activation_bytes == 128 * (100 + 4 * 600)
  assert row.state_bytes == 16 * 4000
  assert row.fitting_micro_batches is None


def test_memories_and_differences_are_in_the_papers_unit():
  row = _row()
  assert row.parameter_memory == pytest.approx(1.2)
  assert row.parameter_memory_difference == pytest.approx(0)
  assert row.activation_memory == pytest.approx(0.1 + 0.5 + 0.4)
  assert row.activation_difference == pytest.approx(0)
  in_gib = dataclasses.replace(row, unit='GiB')
  assert in_gib.parameter_memory == pytest.approx(1.2 * _GB / 2**30)


def test_the_fitting_number_of_micro_batches_gives_the_published_memory():
  row = _row(published=_column(memories=(1.2, 1.5)))
  # 0.1 and 0.4 are fixed, so activations may take twice what they take.
  assert row.fitting_micro_batches == pytest.approx(16)
  assert '8.0 (here 4)' in paper_memory.explain_activations(row)


def test_each_family_has_the_unit_in_which_12_bytes_fit_best():
  in_gb = [
    dataclasses.replace(_column(), model=f'a.{i}', family='A') for i in range(3)
  ]
  in_gib = [
    dataclasses.replace(
      _column(memories=(1.2 * _GB / 2**30, 1.0)), model=f'b.{i}', family='B'
    )
    for i in range(3)
  ]
  # One column that fits neither does not decide.
  odd = dataclasses.replace(_column(memories=(9, 1)), model='a.3', family='A')
  table = [*in_gb, odd, *in_gib]
  units = paper_memory.family_units(
    {column.model: 10**8 for column in table}, table
  )
  assert units == {'A': 'GB', 'B': 'GiB'}


@pytest.mark.parametrize(
  ('memories', 'near', 'said'),
  [
    ((1.2, 1), None, '12 bytes a parameter, in GB'),
    ((1.23, 1), None, '12 bytes a parameter, in GB'),
    ((1.3, 1), None, 'not explained: it is 13.00 bytes a parameter'),
    ((1.3, 1), ('Other', 10**9), 'not explained: it is 13.00 bytes'),
    ((1.3, 1), ('Other', 108_000_000), 'Other would be 1.30 (-0.3%)'),
  ],
)
def test_parameter_memory_is_explained_only_within_3_percent(
  memories, near, said
):
  row = _row(published=_column(memories=memories), near=near)
  explanation = paper_memory.explain_parameters(row)
  assert said in explanation
  assert ('Other' in explanation) == ('Other' in said)


def test_swapped_cells_are_read_the_other_way_round():
  column = _column(memories=(1.0, 1.2), is_swapped=True)
  row = _row(published=column)
  assert column.memories == (1.2, 1.0)
  assert 'row of activation memory' in paper_memory.explain_parameters(row)


def test_what_cannot_be_derived_is_said_not_explained():
  row = _row(published=_column('Naive-1', memories=(1.2, 0.25)))
  explanation = paper_memory.explain_activations(row)
  assert explanation.startswith('not explained')
  assert '4.0 times' in explanation
