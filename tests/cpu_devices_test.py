# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import cpu_devices


def _meet_on_two_devices(config, seconds):
  """Runs an op on each of two devices that waits for the other one."""
  barrier = threading.Barrier(2)

  def wait():
    try:
      barrier.wait(seconds)
    except threading.BrokenBarrierError:
      return np.int32(0)
    return np.int32(1)

  with tf.Graph().as_default():
    ops = []
    for k in range(2):
      with tf.device(f'/job:localhost/replica:0/task:0/device:CPU:{k}'):
        ops.append(tf.numpy_function(wait, [], tf.int32))
    with tf.Session(config=config) as session:
      return session.run(ops)


def test_two_devices_run_at_the_same_time():
  assert _meet_on_two_devices(cpu_devices.session_config(2), 60) == [1, 1]


def test_two_devices_on_one_thread_would_not():
  config = cpu_devices.session_config(2)
  config.inter_op_parallelism_threads = 1
  assert _meet_on_two_devices(config, 0.5) != [1, 1]


def test_sessions_have_that_many_cpus_and_no_gpu():
  config = cpu_devices.session_config(3)
  with tf.Session(graph=tf.Graph(), config=config) as session:
    names = [device.name for device in session.list_devices()]
  assert sorted(names) == [
    f'/job:localhost/replica:0/task:0/device:CPU:{k}' for k in range(3)
  ]


def test_the_given_configuration_is_kept_and_not_changed():
  given = tf.ConfigProto(allow_soft_placement=True)
  config = cpu_devices.session_config(2, given)
  assert config.allow_soft_placement
  assert config.intra_op_parallelism_threads == 1
  assert given == tf.ConfigProto(allow_soft_placement=True)


def test_no_devices_is_an_error():
  with pytest.raises(ValueError, match='num_devices=0'):
    cpu_devices.session_config(0)
