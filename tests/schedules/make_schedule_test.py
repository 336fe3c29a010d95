# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of building schedules by name."""

import subprocess
import sys

import pytest

from lingvo_gpipe import schedules


def test_names_are_those_of_the_two_schedules():
  assert schedules.SCHEDULE_NAMES == ('gpipe', '1f1b')


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_a_schedule_bears_its_name_and_sizes(name):
  schedule = schedules.make_schedule(name, [0, 1, 0, 1], 5)
  assert schedule.name == name
  assert schedule.num_micro_batches == 5
  assert schedule.cell_devices == (0, 1, 0, 1)


@pytest.mark.parametrize(
  'name, cell_devices, num_micro_batches, words',
  [
    ('zigzag', [0], 1, r"'zigzag'.*'gpipe', '1f1b'"),
    ('gpipe', [], 1, 'cell_devices is empty'),
    ('gpipe', [0, -1], 1, r'\[0, -1\]'),
    ('1f1b', [0], 0, 'num_micro_batches is 0'),
  ],
)
def test_bad_arguments_are_named(name, cell_devices, num_micro_batches, words):
  with pytest.raises(ValueError, match=words):
    schedules.make_schedule(name, cell_devices, num_micro_batches)


def test_importing_schedules_does_not_import_tensorflow():
  code = (
    'import sys, lingvo_gpipe.schedules\n'
    'wrong = {"tensorflow", "lingvo", "numpy"} & set(sys.modules)\n'
    'assert not wrong, wrong'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
