# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import threading
from unittest import mock

import child_process
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import logging

from lingvo_gpipe import cpu_devices


def test_two_devices_run_at_the_same_time():
  barrier = threading.Barrier(2)

  def wait():
    barrier.wait(60)  # For the op on the other device.
    return np.int32(1)

  with tf.Graph().as_default():
    ops = []
    for k in range(2):
      with tf.device(f'/job:localhost/replica:0/task:0/device:CPU:{k}'):
        ops.append(tf.numpy_function(wait, [], tf.int32))
    with tf.Session(config=cpu_devices.session_config(2)) as session:
      assert session.run(ops) == [1, 1]


def test_the_configuration_adds_to_the_given_one():
  given = tf.ConfigProto(allow_soft_placement=True)
  config = cpu_devices.session_config(3, given)
  assert config.allow_soft_placement
  assert config.intra_op_parallelism_threads == 1
  assert given == tf.ConfigProto(allow_soft_placement=True)
  with tf.Session(graph=tf.Graph(), config=config) as session:
    names = [device.name for device in session.list_devices()]
  assert sorted(names) == [
    f'/job:localhost/replica:0/task:0/device:CPU:{k}' for k in range(3)
  ]
  with pytest.raises(ValueError, match='num_devices=0'):
    cpu_devices.session_config(0)


@pytest.fixture
def threads(monkeypatch):
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)
  threading = mock.Mock()
  threading.get_intra_op_parallelism_threads.return_value = 0
  monkeypatch.setattr(tf.config, 'threading', threading)
  return threading


@pytest.mark.parametrize(
  ('chosen', 'variable', 'is_set'),
  [(0, '', True), (3, '', False), (0, '2', False)],
)
def test_ops_are_kept_on_one_thread_unless_a_number_was_chosen(
  threads, monkeypatch, chosen, variable, is_set
):
  monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', variable)
  threads.get_intra_op_parallelism_threads.return_value = chosen
  cpu_devices.session_config(1)
  assert not threads.set_intra_op_parallelism_threads.called
  cpu_devices.session_config(2)
  assert threads.set_intra_op_parallelism_threads.called == is_set
  assert cpu_devices.keep_ops_on_one_thread()


def test_that_it_is_too_late_is_logged(threads):
  threads.set_intra_op_parallelism_threads.side_effect = RuntimeError
  with mock.patch.object(logging, 'log_first_n') as logged:
    assert not cpu_devices.keep_ops_on_one_thread()
  assert 'TF_NUM_INTRAOP_THREADS=1' in logged.call_args.args[1]


_BUILD = """
import sys
import lingvo_gpipe
import lingvo.compat as tf
import pipeline_testing
import tiny_pipeline
from absl import flags
from lingvo.core import py_utils

flags.FLAGS(sys.argv[:1])
with pipeline_testing.cluster(2), tf.Graph().as_default():
  py_utils.GetOrCreateGlobalStepVar()
  net = tiny_pipeline.pipeline(tiny_pipeline.linear('a', 'b')).Instantiate()
  net.FProp(net.theta, tf.constant(tiny_pipeline.inputs()))
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_a_pipeline_comes_in_time_before_its_own_functions():
  done = subprocess.run(
    [sys.executable, '-c', _BUILD],
    env=child_process.environment(TF_NUM_INTRAOP_THREADS=''),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split()[-1] == '1'
  assert 'threads were started' not in done.stderr
