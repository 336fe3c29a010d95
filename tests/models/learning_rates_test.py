# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of learning rates."""

import pytest
from lingvo.core import base_model, learner, schedule

from lingvo_gpipe.models import learning_rates


@pytest.mark.parametrize('in_learner', [False, True])
@pytest.mark.parametrize(('total_steps', 'want'), [(0, 70), (50, 50)])
def test_a_schedule_without_an_end_ends_with_the_training(
  in_learner, total_steps, want
):
  train = base_model.BaseTask.Params().train
  train.max_steps = 70
  owner = train
  if in_learner:
    train.learner = learner.Learner.Params()
    owner = train.learner
  owner.lr_schedule = schedule.CosineSchedule.Params().Set(
    total_steps=total_steps
  )
  learning_rates.end_at_max_steps(train)
  assert owner.lr_schedule.total_steps == want


def test_a_schedule_without_total_steps_stays():
  train = base_model.BaseTask.Params().train
  train.lr_schedule = schedule.ConstantOne.Params()
  before = train.ToText()
  learning_rates.end_at_max_steps(train)
  assert train.ToText() == before
