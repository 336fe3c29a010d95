# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark import cases


def test_cases_are_found_by_name_and_by_model():
  assert cases.named_cases(['long', 'tiny']) == [
    cases.CASES[1],
    cases.TINY_CASES[0],
  ]
  found = cases.cases_of_models(['mlp'])
  assert [case.name for case in found] == ['wide', 'long']
  all_of = cases.cases_of_models(cases.SPEED_MODELS)
  assert sorted(all_of, key=str) == sorted(cases.CASES, key=str)


def test_every_case_can_be_cut_into_its_micro_batches():
  for case in (*cases.CASES, *cases.TINY_CASES):
    case.check_micro_batches(case.num_micro_batches)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: cases.Case('x', 'mlp', 4, 0, 8), 'dim is 0'),
    (lambda: cases.Case('x', 'mlp', 4, 8, 8, schedule='y'), "no schedule 'y'"),
    (lambda: cases.named_cases(['none']), "no case 'none'.*wide"),
    (lambda: cases.cases_of_models(['none']), "no model 'none'.*mlp"),
    (lambda: cases.CASES[0].check_micro_batches(3), '3.*512 examples'),
    (lambda: cases.CASES[0].check_micro_batches(0), 'has 0'),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
