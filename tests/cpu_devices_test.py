# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import logging

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


class _Threads:
  """What stands in for tf.config.threading."""

  def __init__(self, chosen=0, started=False):
    self.chosen = chosen
    self._started = started

  def get_intra_op_parallelism_threads(self):
    return self.chosen

  def set_intra_op_parallelism_threads(self, number):
    if self._started:
      raise RuntimeError('too late')
    self.chosen = number


@pytest.fixture
def threads(monkeypatch):
  """Puts threads in the place of TensorFlow's."""
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)

  def put(*args, **kwargs):
    found = _Threads(*args, **kwargs)
    monkeypatch.setattr(tf.config, 'threading', found)
    return found

  return put


@pytest.mark.parametrize(
  ('chosen', 'variable', 'expected'),
  [(0, '', 1), (3, '', 3), (0, '2', 0)],
)
def test_ops_are_kept_on_one_thread_unless_a_number_was_chosen(
  threads, monkeypatch, chosen, variable, expected
):
  monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', variable)
  found = threads(chosen)
  assert cpu_devices.keep_ops_on_one_thread()
  assert found.chosen == expected


def test_sessions_of_several_devices_keep_ops_on_one_thread(threads):
  found = threads()
  cpu_devices.session_config(1)
  assert found.chosen == 0
  cpu_devices.session_config(2)
  assert found.chosen == 1


def test_that_it_is_too_late_is_logged(threads):
  threads(started=True)
  with mock.patch.object(logging, 'log_first_n') as logged:
    assert not cpu_devices.keep_ops_on_one_thread()
  assert 'TF_NUM_INTRAOP_THREADS=1' in logged.call_args.args[1]


_BUILD = """
import sys

from lingvo_gpipe import sequential_layer
import lingvo.compat as tf
from absl import flags
from lingvo.core import cluster_factory, layers, py_utils

flags.FLAGS(sys.argv[:1])
cluster = cluster_factory.ForTestingWorker(
  cpus=2, split_size=2, mode='sync', job='trainer_client'
)
with cluster, tf.Graph().as_default():
  py_utils.GetOrCreateGlobalStepVar()
  sub = [
    layers.FCLayer.Params().Set(name=f'fc{i}', input_dim=4, output_dim=4)
    for i in range(2)
  ]
  net = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net', sub=sub, num_partitions=2, input_shapes='float32[2,4]'
  ).Instantiate()
  net.FProp(net.theta, tf.zeros([4, 4]))
"""


def test_a_pipeline_comes_in_time_before_its_own_functions(monkeypatch):
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      _BUILD + 'print(tf.config.threading.get_intra_op_parallelism_threads())',
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split()[-1] == '1'
  assert 'threads were started' not in done.stderr
