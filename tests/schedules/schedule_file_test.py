# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules can be written to files, and anyone can bring one."""

import pytest

from lingvo_gpipe import schedules


def _file(tmp_path, text, name='mine.json'):
  path = tmp_path / name
  path.write_text(text)
  return str(path)


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_what_is_written_is_read(name, tmp_path):
  devices = schedules.place(name, 4, 2)
  schedule = schedules.make_schedule(name, devices, 3, first_backward=1)
  path = _file(tmp_path, schedules.to_json(schedule))
  assert schedules.read(path) == schedule
  found = schedules.make_schedule(f'file:{path}', devices, 3, first_backward=1)
  assert found == schedule


def test_it_is_a_schedule_as_others(tmp_path):
  schedule = schedules.make_schedule('zb_v', (0, 1, 1, 0), 3)
  path = _file(tmp_path, schedules.to_json(schedule))
  name = f'file:{path}'
  assert schedules.place(name, 4, 2) == (0, 1, 1, 0)
  assert schedules.cells_per_device(name) == 2
  assert schedules.count(name, (0, 1, 1, 0), 3, 'always') == (
    schedules.count('zb_v', (0, 1, 1, 0), 3, 'always')
  )
  later = schedules.make_schedule(name, (0, 1, 1, 0), 3, first_backward=2)
  assert later.first_backward == 2


def test_pytorchs_files_are_read(tmp_path):
  path = _file(tmp_path, '0F0,0F1,,0I0,0W0,0B1\n,1F0,1B0,1F1,1B1\n', 'a.csv')
  with pytest.raises(schedules.ScheduleError, match=r'lacks .*W(.|\n)*\?W'):
    # One cell has W for some micro-batches only.
    schedules.make_schedule(f'file:{path}', (0, 1), 2)
  # An empty line is no device.
  path = _file(tmp_path, '0F0,0F1,,0B0,,0B1\n\n,1F0,1B0,1F1,1B1\n\n', 'b.csv')
  found = schedules.make_schedule(f'file:{path}', (0, 1), 2)
  assert found.device_tasks == (
    schedules.make_schedule('1f1b', (0, 1), 2).device_tasks
  )


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('', 'it is no schedule'),
    ('[]', 'it is no schedule'),
    (
      '{"num_micro_batches": 1.5, "cell_devices": [0], "device_tasks": []}',
      'it is no schedule',
    ),
    ('{"num_micro_batches": 1}', "it has no 'cell_devices'"),
    (
      '{"num_micro_batches": 1, "cell_devices": [0], "device_tasks": [["F0"]]}',
      r"'F0', place 0 of device 0, is no task such as F0\.1",
    ),
  ],
)
def test_what_is_no_schedule_is_named_with_its_place(text, words, tmp_path):
  path = _file(tmp_path, text)
  with pytest.raises(schedules.ScheduleError, match=f'mine.json: .*{words}'):
    schedules.read(path)


@pytest.mark.parametrize(
  ('devices', 'num_micro_batches', 'words'),
  [
    ((0, 1, 2), 2, 'cells 2, but the pipeline has 3'),
    ((0, 0), 2, r'devices \[0, 1\], but the pipeline has \[0, 0\]'),
  ],
)
def test_a_schedule_for_another_pipeline_is_refused(
  devices, num_micro_batches, words, tmp_path
):
  schedule = schedules.make_schedule('1f1b', (0, 1), 2)
  path = _file(tmp_path, schedules.to_json(schedule))
  with pytest.raises(schedules.ScheduleError, match=words):
    schedules.make_schedule(f'file:{path}', devices, num_micro_batches)


@pytest.mark.parametrize(
  'name, words',
  [
    ('file:/no/such.json', '/no/such.json'),
    ('file:', 'file:: give file:PATH'),
    ('file:a.txt', 'a.txt'),
  ],
)
def test_a_file_that_there_is_not_is_named(name, words):
  with pytest.raises(schedules.ScheduleError, match=words):
    schedules.check_name(name)


@pytest.mark.parametrize('forward_only', [False, True])
def test_trained_cells_without_backward_tasks_are_refused(
  forward_only, tmp_path
):
  schedule = schedules.make_schedule(
    'zb_h1', (0, 1), 2, first_backward=1, forward_only=forward_only
  )
  path = _file(tmp_path, schedules.to_json(schedule))
  with pytest.raises(schedules.ScheduleError, match='from cell 0 on, have no'):
    schedules.make_schedule(f'file:{path}', (0, 1), 2)
