# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a model, its pipeline computes what the plain layers do.

And no bit depends on the cut, the schedule or the recompute policy.
"""

import example_model
import pipeline_testing as pt
import pytest
from example_models import MODELS

all_models = pytest.mark.parametrize('name', MODELS)


@all_models
@pytest.mark.parametrize('do_eval', [False, True])
def test_numbers_are_those_of_the_plain_layers(name, do_eval):
  model = MODELS[name]
  plain, *piped = model.steps(
    model.cuts[-1], example_model.plain, *model.computes, do_eval=do_eval
  )
  for got in piped:
    pt.assert_close(got, plain, model.tolerance)


@all_models
def test_no_bit_depends_on_the_cut_the_schedule_or_the_policy(name):
  model = MODELS[name]
  reference = model.step(schedule='gpipe', recompute='always')
  for cut, schedule, recompute in (
    (model.cuts[0], '1f1b', 'except_last'),
    (model.cuts[-1], 'gpipe', 'never'),
  ):
    got = model.step(cut, schedule=schedule, recompute=recompute)
    pt.assert_identical(got, reference)
