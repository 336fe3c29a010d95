# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Devices win over whatever scopes surround them."""

import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import placement


def test_device_wins_over_devices_and_colocation_around():
  with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
    a = tf.constant(1.0)
    with graph.colocate_with(a.op), placement.on_device('/cpu:2'):
      b = tf.constant(1.0)
    assert b.device == '/device:CPU:2'
    assert b.op.colocation_groups() == [b'loc:@' + b.op.name.encode()]
    assert tf.constant(1.0).device == '/device:CPU:0'


def test_an_empty_device_leaves_the_choice_open():
  with (
    tf.Graph().as_default(),
    tf.device('/cpu:1'),
    placement.on_device(''),
  ):
    assert tf.constant(1.0).device == ''


@pytest.mark.parametrize(
  ('devices', 'indices'),
  [
    (['/cpu:0', '/cpu:1', '/cpu:0'], (0, 1, 0)),
    (['b', 'a', 'a'], (0, 1, 1)),
    ([], ()),
  ],
)
def test_devices_are_numbered_as_they_appear(devices, indices):
  assert placement.device_indices(devices) == indices
