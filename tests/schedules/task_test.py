# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pickle

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Schedule, Task, TaskKind

F, B, W = TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.WEIGHT_GRADIENT


def test_tasks_survive_pickling_as_dictionary_keys():
  task = Task(W, 2, 5)
  assert {task: 1}[pickle.loads(pickle.dumps(task))] == 1


def test_in_order_goes_by_slots():
  schedule = schedules.make_schedule('1f1b', range(2), 2)
  # device 0  F0.0 F0.1   .  B0.0   .  B0.1
  # device 1    .  F1.0 B1.0 F1.1 B1.1
  names = 'F0.0 F0.1 F1.0 B1.0 B0.0 F1.1 B1.1 B0.1'
  assert ' '.join(map(str, schedule.in_order())) == names


def test_in_order_refuses_a_deadlock():
  schedule = Schedule(
    'mine', 1, (0, 1), ((Task(B, 0, 0), Task(F, 0, 0)), (Task(F, 1, 0),))
  )
  with pytest.raises(schedules.ScheduleError, match='after 0 of 3 tasks'):
    schedule.in_order()
