# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import gradient_graph, graph_function

_VECTOR = tf.TensorSpec([2], tf.float32)


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def _run(x):
  with tf.Session() as sess:
    return sess.run(x)


def _gradient(body, specs, dense=False):
  """The gradients by all inputs, as a function of d_y and what G reads."""
  traced = graph_function.trace('f', body, specs)
  xs = traced.inputs
  return traced, gradient_graph.differentiate(
    traced, traced.outputs[:1], xs, 'g', [dense] * len(xs)
  )


def test_gradient_reads_of_the_trace_what_it_needs():
  traced, gradient = _gradient(
    lambda x, unused: [tf.exp(x)], [_VECTOR, _VECTOR]
  )
  assert gradient.positions == (0, None)
  # exp is its own derivative, so the output is all that is read.
  assert len(gradient.captures) == 1
  assert gradient.captures[0].op.type == 'Exp'
  assert gradient.captures[0].graph is traced
  function = graph_function.GraphFunction('f', gradient.graph)
  d_x = function([tf.constant([1.0, 2.0]), tf.constant([5.0, 7.0])])
  np.testing.assert_array_equal(_run(d_x[0]), [5, 14])


def test_sparse_gradients_are_told_apart_or_made_dense():
  table = tf.TensorSpec([4, 2], tf.float32)

  def body(t):
    return [tf.gather(t, [1, 3])]

  _, sparse = _gradient(body, [table])
  assert isinstance(sparse.positions[0], gradient_graph.Slices)
  assert len(sparse.graph.outputs) in (2, 3)
  _, dense = _gradient(body, [table], dense=True)
  assert dense.positions == (0,)
  assert dense.graph.outputs[0].shape.as_list() == [4, 2]
