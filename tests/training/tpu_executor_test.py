# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's TPU executor builds a pipeline's training loop, without a TPU.

All that is made up is the TPU's own description of its cores. Running the loop,
and compiling it, needs the TPU.
"""

import collections
import pathlib
import re

import lingvo.compat as tf
import numpy as np
import pytest
from absl.testing import flagsaver
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cluster
from lingvo_gpipe.training import model_lookup, runner_manager

FLAGS = tf.flags.FLAGS
CORES = 2
MICRO_BATCHES = 4


def _set_flags(logdir):
  """What --tpu sets, for a TPU of one host, and --job=executor_tpu."""
  FLAGS.job = 'executor_tpu'
  FLAGS.mode = 'sync'
  FLAGS.tf_master = ''
  FLAGS.xla_device = 'tpu'
  FLAGS.enable_asserts = False
  FLAGS.checkpoint_in_trainer_tpu = True
  FLAGS.worker_job = FLAGS.ps_job = '/job:localhost'
  FLAGS.worker_replicas = FLAGS.worker_num_tpu_hosts = 1
  FLAGS.worker_tpus = FLAGS.worker_split_size = CORES
  FLAGS.logdir = str(logdir)


def _describe_tpu(**unused):
  """In place of the op that starts a TPU and returns where its cores are."""
  topology = tf.tpu.experimental.Topology(
    mesh_shape=[1, 1, 1, CORES],
    device_coordinates=np.array([[[0, 0, 0, k] for k in range(CORES)]]),
  )
  return tf.constant(topology.serialized())


@pytest.fixture(scope='module')
def graph_def(tmp_path_factory):
  """The graph that the executor runs."""
  before, eager = cluster_factory.Cluster, py_utils.IsEagerMode()
  saved = flagsaver.save_flag_values()
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(pathlib.Path(__file__).parent.parent)
    patch.setattr(tf.tpu, 'initialize_system', _describe_tpu)
    _set_flags(tmp_path_factory.mktemp('logdir'))
    cluster.install()
    py_utils.SetEagerMode(False, test_mode=True)
    manager = runner_manager.RunnerManager(
      model_lookup.find_model('stand_in_pipeline.Small')
    )
    (runner,) = manager.CreateRunners(['executor_tpu'], FLAGS.logdir)
    result = runner._graph.as_graph_def()
  flagsaver.restore_flag_values(saved)
  cluster_factory.SetCluster(before)
  py_utils.SetEagerMode(eager, test_mode=True)
  py_utils.SetTpuDeviceAssignment(None)
  return result


def _nodes(graph_def):
  """All nodes, those in functions too."""
  yield from graph_def.node
  for function in graph_def.library.function:
    yield from function.node_def


def _core(device):
  found = re.fullmatch(r'/device:TPU_REPLICATED_CORE:(\d+)', device)
  return int(found[1]) if found else None


def test_each_cell_is_called_on_its_core(graph_def):
  (loop,) = (
    function
    for function in graph_def.library.function
    if function.signature.name.startswith('while_body')
  )
  calls = collections.Counter()
  for node in loop.node_def:
    task = re.match(
      r'cell_(\d+)_(forward|recompute)_', node.attr['f'].func.name
    )
    if task:
      calls[int(task[1]), task[2], _core(node.device)] += 1
  # Under 1F1B the last cell would gain nothing by recomputing.
  assert calls == {
    **{(k, 'forward', k): MICRO_BATCHES for k in range(CORES)},
    **{(k, 'recompute', k): MICRO_BATCHES for k in range(CORES - 1)},
  }


def test_the_loop_is_replicated_over_the_model_split(graph_def):
  (metadata,) = (n for n in _nodes(graph_def) if n.op == 'TPUReplicateMetadata')
  assert metadata.attr['num_replicas'].i == 1
  assert metadata.attr['num_cores_per_replica'].i == CORES
  assert any(
    n.op in ('While', 'StatelessWhile') and '_tpu_replicate' in n.attr
    for n in graph_def.node
  )


def test_weights_and_optimizer_slots_are_on_the_core_of_their_cell(graph_def):
  cores = {
    node.attr['shared_name'].s.decode(): _core(node.device)
    for node in graph_def.node
    if node.op == 'VarHandleOp'
  }
  for k, layer in enumerate(('first', 'last')):
    for name in ('w/var', 'b/var', 'w/var/Adam', 'b/var/Adam_1'):
      assert cores[f'small/pipeline/{layer}/{name}'] == k, name
