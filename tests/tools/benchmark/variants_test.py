# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from tools.benchmark import cases, variants
from tools.benchmark.variants import METHODS, Method

_MLP = cases.TINY_CASES[0]
_LANGUAGE_MODEL = cases.TINY_CASES[2]


def test_each_engine_has_what_schedules_and_policies_it_can():
  names = METHODS.keys()
  assert {'lingvo', 'naive', 'plain', 'ours-1f1b-except_last'} < names
  assert {n for n in names if n.startswith('torch')} == {
    *('torch-gpipe-always', 'torch-gpipe-never'),
    *('torch-1f1b-always', 'torch-1f1b-never'),
  }
  assert {m.engine for m in METHODS.values()} == set(variants.ENGINES)


def test_all_k_and_m_are_combined_but_where_they_mean_nothing():
  methods = [Method('ours', '1f1b'), METHODS['naive'], METHODS['plain']]
  found = variants.expand(_MLP, methods, [2, 4], [4, 8])
  assert [variant.name for variant in found] == [
    'ours-1f1b-always K=2 M=4',
    'ours-1f1b-always K=2 M=8',
    'ours-1f1b-always K=4 M=4',
    'ours-1f1b-always K=4 M=8',
    'naive K=2 M=1',
    'naive K=4 M=1',
    'plain K=1 M=1',
  ]


def test_the_case_says_k_and_m_where_nothing_else_does():
  [found] = variants.expand(_MLP, [Method('ours')])
  assert (found.num_cells, found.num_micro_batches) == (2, 4)


def test_the_peer_trains_the_mlp_only():
  torch = [Method('torch')]
  assert len(variants.expand(_MLP, torch)) == 1
  assert not variants.expand(_LANGUAGE_MODEL, torch)


def test_a_case_says_how_it_is_run_itself():
  case = dataclasses.replace(_MLP, schedule='gpipe', recompute='never')
  assert variants.variant_of(case).name == 'ours-gpipe-never K=2 M=4'


def test_there_are_no_fewer_cells_than_one():
  with pytest.raises(ValueError, match='cells has 0'):
    variants.expand(_MLP, [], [0])
