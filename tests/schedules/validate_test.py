# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Schedule, ScheduleError, Task, TaskKind

F = TaskKind.FORWARD


def _schedule(rows):
  tasks = tuple(tuple(map(_task, row.split())) for row in rows)
  return Schedule('mine', 2, (0, 1), tasks)


def _task(text):
  cell, micro_batch = text[1:].split('.')
  return Task(TaskKind(text[0]), int(cell), int(micro_batch))


def _error(schedule):
  with pytest.raises(ScheduleError) as raised:
    schedules.validate(schedule)
  return str(raised.value)


GOOD = ['F0.0 F0.1 B0.0 B0.1', 'F1.0 B1.0 F1.1 B1.1']
_WITH_W = 'F1.0 B1.0 W1.0 F1.1 B1.1 W1.1'


@pytest.mark.parametrize(
  ('rows', 'messages'),
  [
    (
      [GOOD[0] + ' B0.0', GOOD[1]],
      [
        'B0.0 on device 0 runs a second time, after device 0.',
        'device 0  F0.0  F0.1 !B0.0  B0.1 !B0.0\n'
        'device 1  F1.0  B1.0  F1.1  B1.1     .',
      ],
    ),
    (
      [GOOD[0], 'F1.0 B1.0 F1.1'],
      ['Device 1 lacks B1.1.', 'device 1  F1.0  B1.0  F1.1 ?B1.1'],
    ),
    (['F0.0 F0.1', GOOD[1]], ['Device 0 lacks B0.0, B0.1.']),
    (
      [GOOD[0] + ' B1.1', 'F1.0 B1.0 F1.1'],
      ['B1.1 on device 0: cell 1 is on device 1.', '!B1.1'],
    ),
    (
      [GOOD[0] + ' F2.0', GOOD[1] + ' F1.2'],
      [
        'F2.0 on device 0 is no task',
        'F1.2 on device 1 is no',
        '!F2.0',
        '!F1.2',
      ],
    ),
    (['F0.0 F0.1 B0.1 B0.0', GOOD[1]], ['B0.0 runs after B0.1', '!B0.0']),
    (['F0.1 F0.0 B0.0 B0.1', GOOD[1]], ['F0.0 runs after F0.1', '!F0.0']),
    (
      ['F0.0 F0.1 W0.0 B0.0 B0.1 W0.1', _WITH_W],
      ['W0.0 needs B0.0, which comes after W0.0 on device 0.'],
    ),
    (['F0.0 F0.1 B0.0 B0.1 W0.1 W0.0', _WITH_W], ['W0.0 runs after W0.1']),
    (['F0.0 F0.1 W0.0 W0.1', 'F1.0 F1.1 W1.0 W1.1'], ['no backward tasks']),
  ],
)
def test_wrong_rows_are_refused_and_their_tasks_marked(rows, messages):
  message = _error(_schedule(rows))
  for text in messages:
    assert text in message


def test_a_deadlock_shows_what_ran_and_who_waits_for_whom():
  message = _error(_schedule(['F0.0 B0.0 F0.1 B0.1', 'F1.0 F1.1 B1.0 B1.1']))
  assert message == (
    "Schedule 'mine' is not valid.\n"
    '- It deadlocks: these devices wait for each other.\n'
    '- Device 0: B0.0 needs B1.0, which comes after F1.1 on device 1.\n'
    '- Device 1: F1.1 needs F0.1, which comes after B0.0 on device 0.\n'
    'The tasks of each device in order; ! marks those at fault, ? those that '
    'are missing:\n'
    '             0     1     2     3\n'
    'device 0  F0.0 !B0.0  F0.1  B0.1\n'
    'device 1  F1.0 !F1.1  B1.0  B1.1'
  )


@pytest.mark.parametrize(
  'schedule, words',
  [
    (Schedule('mine', 0, (0,), ((),)), 'num_micro_batches is 0,'),
    (Schedule('mine', 1, (), ()), 'cell_devices is []'),
    (
      Schedule('mine', 1, (0, 2), ((Task(F, 0, 0),), (Task(F, 1, 0),))),
      'cell_devices is [0, 2], first_backward is 0, and device_tasks has 2',
    ),
  ],
)
def test_impossible_sizes_are_refused(schedule, words):
  assert words in _error(schedule)


def test_a_long_list_of_faults_is_cut_short():
  good = schedules.make_schedule('gpipe', range(2), 50)
  message = _error(
    dataclasses.replace(good, device_tasks=good.device_tasks[::-1])
  )
  assert 'and 192 more like these' in message
  assert len(message.splitlines()) < 20
