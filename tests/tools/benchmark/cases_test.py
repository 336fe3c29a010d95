# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark import cases


def test_every_case_can_be_cut_into_its_micro_batches():
  for case in cases.BY_NAME.values():
    case.check_micro_batches(case.num_micro_batches)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: cases.Case('x', 'mlp', 4, 0, 8), 'dim is 0'),
    (lambda: cases.Case('x', 'mlp', 4, 8, 8, schedule='y'), "no schedule 'y'"),
    (lambda: cases.CASES[0].check_micro_batches(3), '3.*512 examples'),
    (lambda: cases.CASES[0].check_micro_batches(0), 'has 0'),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
