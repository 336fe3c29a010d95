# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Barriers survive the optimiser; devices win over scopes around them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.tensors import barrier, device_indices, on_device


def _optimised(fetches):
  """Runs; returns values, and the op types after graph optimisation."""
  metadata = tf.RunMetadata()
  with tf.Session() as sess:
    values = sess.run(
      fetches,
      {'x:0': [1.0, 2.0]},
      options=tf.RunOptions(output_partition_graphs=True),
      run_metadata=metadata,
    )
  return values, [
    node.op for graph in metadata.partition_graphs for node in graph.node
  ]


def _chain(between):
  """Two layers, with `between` behind each; the outputs and the gradient."""
  x = tf.placeholder(tf.float32, [2], name='x')
  z = between(tf.tanh(between(x * 2.0)) * x)
  return z, tf.gradients(z * z, x)[0]


def test_barriers_and_those_of_the_gradient_survive_the_optimiser():
  with tf.Graph().as_default():
    values, plain_ops = _optimised(_chain(tf.identity))
  with tf.Graph().as_default():
    got, ops = _optimised(_chain(barrier))
  np.testing.assert_allclose(got, values, rtol=1e-6)
  assert plain_ops.count('PlaceholderWithDefault') == 0
  # Two in the forward pass and two in the gradient.
  assert ops.count('PlaceholderWithDefault') == 4, ops


@pytest.mark.parametrize('dense', [False, True])
def test_sparse_gradients_stay_sparse_or_are_made_dense(dense):
  with tf.Session() as sess:
    table = tf.get_variable('table', [4, 2])
    behind = barrier(tf.convert_to_tensor(table), dense=dense)
    rows = tf.gather(behind, [1, 1])
    [gradient] = tf.gradients(tf.reduce_sum(rows), table)
    assert isinstance(gradient, tf.Tensor if dense else tf.IndexedSlices)
    np.testing.assert_array_equal(
      sess.run(tf.convert_to_tensor(gradient)), [[0, 0], [2, 2], [0, 0], [0, 0]]
    )


def test_device_wins_over_devices_and_colocation_around():
  with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
    a = tf.constant(1.0)
    with graph.colocate_with(a.op), on_device('/cpu:2'):
      b = tf.constant(1.0)
    assert b.device == '/device:CPU:2'
    assert b.op.colocation_groups() == [b'loc:@' + b.op.name.encode()]
    assert tf.constant(1.0).device == '/device:CPU:0'


@pytest.mark.parametrize(
  ('devices', 'indices'),
  [
    (['/cpu:0', '/cpu:1', '/cpu:0'], (0, 1, 0)),
    (['/cpu:1', '/cpu:0', '/device:CPU:0', ''], (0, 1, 1, 2)),
    ([], ()),
  ],
)
def test_devices_are_numbered_as_they_appear(devices, indices):
  assert device_indices(devices) == indices
