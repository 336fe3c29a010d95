# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Learning rates of tasks."""

from typing import Any


def end_at_max_steps(train: Any) -> None:
  """Lets schedules without an end of their own end with the training.

  Args:
    train: A task's `train` Params. A learning rate schedule in them with a
      Param `total_steps` that is 0 gets `max_steps` there.
  """
  learners = train.learner if train.learner is not None else train
  if not isinstance(learners, list | tuple):
    learners = [learners]
  for learner in learners:
    lr_schedule = learner.lr_schedule
    if (
      lr_schedule is not None
      and 'total_steps' in lr_schedule
      and not lr_schedule.total_steps
    ):
      lr_schedule.total_steps = train.max_steps
