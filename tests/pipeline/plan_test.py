# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import lingvo.compat as tf
import pipeline_testing as pt
import tiny_pipeline as tp

from lingvo_gpipe import schedules


def test_a_layer_reads_the_file_of_its_schedule_once(tmp_path):
  path = tmp_path / 'mine.json'
  made = schedules.make_schedule('1f1b', (0, 1), 4)
  path.write_text(schedules.to_json(made))
  params = tp.with_loss(tp.linear('a', 'b'), schedule=f'file:{path}')
  with pt.graph(2):
    net, other = (params.Copy().Set(name=n).Instantiate() for n in 'xy')
    x = tf.ones([8, tp.WIDTH])
    net.ComputeLoss(net.theta, x, x)
    changed = schedules.make_schedule('gpipe', (0, 1), 4)
    path.write_text(schedules.to_json(changed))
    first = net.schedule
    net.ComputeLoss(net.theta, x, x)
    other.ComputeLoss(other.theta, x, x)
  assert first.device_tasks == made.device_tasks
  assert net.schedule is first
  assert other.schedule.device_tasks == changed.device_tasks
