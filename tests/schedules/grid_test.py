# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.schedules.grid import draw

F = TaskKind.FORWARD


def test_one_row_a_device_and_one_column_a_slot():
  assert schedules.grid(schedules.make_schedule('1f1b', range(3), 4)) == (
    '1f1b: cells 3, devices 3, micro-batches 4 (F forward, B backward)\n'
    '          0  1  2  3  4  5  6  7  8  9 10 11\n'
    'device 0 F0 F1 F2  .  . B0 F3 B1  . B2  . B3\n'
    'device 1  . F0 F1  . B0 F2 B1 F3 B2  . B3  .\n'
    'device 2  .  . F0 B0 F1 B1 F2 B2 F3 B3  .  .'
  )


def test_tasks_show_their_cell_where_devices_hold_several():
  text = schedules.grid(
    schedules.make_schedule('gpipe', [0, 1, 0], 2, forward_only=True)
  )
  assert text == (
    'forward_only: cells 3, devices 2, micro-batches 2 (F forward)\n'
    '            0    1    2    3\n'
    'device 0 F0.0 F0.1 F2.0 F2.1\n'
    'device 1    . F1.0 F1.1    .'
  )


@pytest.mark.parametrize('unit', [1, 0.1, Fraction(1, 3)])
def test_long_tasks_span_columns(unit):
  schedule = schedules.make_schedule('1f1b', range(2), 2)
  timeline = schedules.simulate(
    schedule, lambda task: unit if task.kind == F else 2 * unit, unit
  )
  assert schedules.grid(schedule, timeline).splitlines()[2:] == [
    'device 0 F0 F1  .  .  .  . B0 --  . B1 --',
    'device 1  .  . F0 B0 -- F1 B1 --  .  .  .',
  ]


def test_wide_grids_lose_their_middle_and_say_so():
  schedule = schedules.make_schedule('gpipe', range(2), 100)
  text = schedules.grid(schedule, max_width=60)
  lines = text.splitlines()
  assert max(map(len, lines[1:-1])) <= 60
  assert lines[2].startswith('device 0  F0  F1')
  assert lines[2].endswith('B98 B99')
  assert lines[-1] == (
    '(... stands for 191 of 202 columns that do not fit into 60 characters)'
  )


def test_the_focus_stays_in_view():
  row = [str(column) for column in range(100)]
  for focus in (0, 1, 50, 98, 99):
    lines = draw([row], focus=focus, max_width=40).splitlines()
    assert str(focus) in lines[1].split()
