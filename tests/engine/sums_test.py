# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""No function adds up more than two tensors at once."""

import lingvo.compat as tf
import numpy as np
import pytest
from tensorflow.python.framework import function

from lingvo_gpipe.engine import graph_function

_SPEC = tf.TensorSpec([4], tf.float32)


def _sum(x):
  return tf.add_n([x, tf.sin(x), tf.cos(x), tf.exp(x)])


def _in_loop(x):
  return tf.while_loop(
    lambda i, _: i < 2, lambda i, y: (i + 1, _sum(y)), (0, x)
  )[1]


def _in_conditional(x):
  return tf.cond(x[0] > 0, lambda: _in_loop(x), lambda: _sum(x))


def _in_defun(x):
  @function.Defun(tf.float32, shape_func=lambda op: [[4]])
  def body(y):
    return _sum(y)

  return tf.reshape(body(x), [4])


def _sums(definition):
  return [node.attr['N'].i for node in definition.node_def if node.op == 'AddN']


@pytest.mark.parametrize('fn', [_sum, _in_loop, _in_conditional, _in_defun])
def test_sums_are_of_two_wherever_they_are(fn):
  value = np.array([0.5, -1, 2, 0.25], np.float32)
  with tf.Graph().as_default() as graph, tf.Session() as session:
    x = tf.constant(value)
    called = graph_function.as_function('f', lambda x: [fn(x)], [_SPEC])
    [result] = called([x])
    definitions = {
      f.signature.name: f for f in graph.as_graph_def().library.function
    }
    copies = [f for name, f in definitions.items() if 'in_pairs' in name]
    own = definitions[called._function.name.decode()]
    sums = [n for f in [own, *copies] for n in _sums(f)]
    assert len(sums) >= 3
    assert set(sums) == {2}
    # Nothing calls a function that has another sum.
    for name, definition in definitions.items():
      if set(_sums(definition)) - {2}:
        assert not any(
          name in str(node.attr) or node.op == name
          for f in [own, *copies]
          for node in f.node_def
        )
    # The other one may begin with another term.
    np.testing.assert_allclose(*session.run([result, fn(x)]), rtol=1e-6)


def test_gradients_of_what_is_read_often_are_sums_of_two():
  with tf.Graph().as_default():
    graph = graph_function.trace('f', lambda x: [x * x * x * x], [_SPEC])
    with graph.as_default():
      [gradient] = tf.gradients(graph.outputs, graph.inputs)
    f = graph_function.GraphFunction('g', graph, outputs=[gradient])
    assert _sums(f._function.definition) == [2, 2, 2]


def test_lists_of_tensors_stay_as_they_are():
  def fn(x):
    one = tf.raw_ops.TensorListReserve(
      element_shape=tf.zeros([0], tf.int32),
      num_elements=4,
      element_dtype=tf.float32,
    )
    total = tf.raw_ops.AddN(inputs=[one, one, one])
    return [
      x + tf.cast(tf.raw_ops.TensorListLength(input_handle=total), x.dtype)
    ]

  with tf.Graph().as_default():
    f = graph_function.as_function('f', fn, [_SPEC])
    assert _sums(f._function.definition) == [3]
