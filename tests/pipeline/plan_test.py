# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from lingvo_gpipe import schedules
from lingvo_gpipe.pipeline import plan


def test_a_file_is_read_for_each_plan_and_our_own_schedules_are_kept(tmp_path):
  path = tmp_path / 'mine.json'
  for name in ('gpipe', '1f1b'):
    made = schedules.make_schedule(name, (0, 1), 4)
    path.write_text(schedules.to_json(made))
    found, *_ = plan._schedule(f'file:{path}', 'always', (0, 1), 4)
    assert found.device_tasks == made.device_tasks
  first, second = (plan._schedule('1f1b', 'always', (0, 1), 4) for _ in '12')
  assert first is second
