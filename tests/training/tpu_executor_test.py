# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's TPU executor builds a pipeline's training loop, without a TPU."""

import collections
import re

import lingvo.compat as tf
import local_training
import numpy as np
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.training import model_lookup, runner_manager

CORES = 2
MICRO_BATCHES = 4


# What --tpu sets, for a TPU of one host, and --job=executor_tpu.
_SETTINGS = {
  'run_locally': '',
  'job': 'executor_tpu',
  'mode': 'sync',
  'tf_master': '',
  'xla_device': 'tpu',
  'enable_asserts': False,
  'checkpoint_in_trainer_tpu': True,
  'worker_job': '/job:localhost',
  'ps_job': '/job:localhost',
  'worker_replicas': 1,
  'worker_num_tpu_hosts': 1,
  'worker_tpus': CORES,
  'worker_split_size': CORES,
}


def _describe_tpu(**unused):
  """In place of the op that starts a TPU and returns where its cores are."""
  topology = tf.tpu.experimental.Topology(
    mesh_shape=[1, 1, 1, CORES],
    device_coordinates=np.array([[[0, 0, 0, k] for k in range(CORES)]]),
  )
  return tf.constant(topology.serialized())


@pytest.fixture(scope='module')
def graph_def(tmp_path_factory):
  logdir = tmp_path_factory.mktemp('logdir')
  with (
    pytest.MonkeyPatch.context() as patch,
    local_training.settings(logdir, **_SETTINGS),
  ):
    patch.setattr(tf.tpu, 'initialize_system', _describe_tpu)
    manager = runner_manager.RunnerManager(
      model_lookup.find_model('stand_in_pipeline.Small')
    )
    (runner,) = manager.CreateRunners(['executor_tpu'], str(logdir))
    result = runner._graph.as_graph_def()
  py_utils.SetTpuDeviceAssignment(None)
  return result


def _nodes(graph_def):
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
