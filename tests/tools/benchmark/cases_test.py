# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark import cases
from tools.benchmark.cases import METHODS, variants

_MLP, _, _LANGUAGE_MODEL = cases.TINY_CASES


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: cases.Case('x', 'mlp', 4, 0, 8), 'dim is 0'),
    (lambda: cases.Case('x', 'mlp', 4, 8, 8, schedule='y'), "no schedule 'y'"),
    (lambda: cases.CASES[0].check_micro_batches(3), '3.*512 examples'),
    (lambda: cases.CASES[0].check_micro_batches(0), 'has 0'),
    (lambda: variants(_MLP, ['lingvo'], [0]), 'num_cells is 0'),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_each_engine_has_what_schedules_and_policies_it_can():
  assert {'lingvo', 'naive', 'plain', 'ours-1f1b-except_last'} < METHODS.keys()
  assert {name for name in METHODS if name.startswith('torch')} == {
    *('torch-gpipe-always', 'torch-gpipe-never'),
    *('torch-1f1b-always', 'torch-1f1b-never'),
  }
  for name in METHODS:
    [case] = variants(_MLP, [name])
    assert case.method == name and case.engine in cases.ENGINES
  assert not variants(_LANGUAGE_MODEL, ['torch-1f1b-never'])


def test_all_k_and_m_are_combined_but_where_they_mean_nothing():
  methods = ['ours-1f1b-always', 'naive', 'plain']
  found = variants(_MLP, methods, [2, 4], [4, 8])
  assert [case.variant for case in found] == [
    'ours-1f1b-always K=2 M=4',
    'ours-1f1b-always K=2 M=8',
    'ours-1f1b-always K=4 M=4',
    'ours-1f1b-always K=4 M=8',
    'naive K=2 M=1',
    'naive K=4 M=1',
    'plain K=1 M=1',
  ]
