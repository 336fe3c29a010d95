# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from tools.benchmark import cases, speed_estimate, variants
from tools.benchmark.speed_estimate import Plan

_CASE = cases.CASES[0]
_VARIANTS = variants.expand(
  _CASE,
  [variants.make_method('lingvo'), variants.Method('ours', '1f1b', 'never')],
)


def _seconds(case=_CASE, found=_VARIANTS, **plan):
  return speed_estimate.seconds({case: found}, Plan(**plan), num_cores=2)


def test_more_of_anything_takes_longer():
  base = _seconds()
  assert base < _seconds(rounds=10)
  assert base < _seconds(runs=2)
  assert _seconds(memory=False) < base
  assert _seconds(one_core_steps=0) < base
  assert _seconds(found=_VARIANTS[:1]) < base


def test_steps_count_with_the_time_that_the_case_names():
  slow = dataclasses.replace(_CASE, step_seconds=10 * _CASE.step_seconds)
  few, many = (
    Plan(rounds=rounds, memory=False, one_core_steps=0) for rounds in (5, 10)
  )
  for case in (_CASE, slow):
    times = [
      speed_estimate.seconds({case: _VARIANTS}, plan, 2) for plan in (few, many)
    ]
    # In each of two variants, on two cores.
    assert times[1] - times[0] == pytest.approx(
      2 * 5 * few.steps * case.step_seconds / 2
    )


@pytest.mark.parametrize('name', ['runs', 'rounds', 'steps'])
def test_a_plan_measures_something(name):
  with pytest.raises(ValueError, match=f'{name} is 0'):
    Plan(**{name: 0})


def test_a_plan_has_no_negative_steps():
  with pytest.raises(ValueError, match='one_core_steps is -1'):
    Plan(one_core_steps=-1)
