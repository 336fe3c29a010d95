# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Traced functions, their gradients, and calls that are not inlined."""

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context

from lingvo_gpipe.engine import graph_function, graph_walks

_VECTOR = tf.TensorSpec([2], tf.float32)


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def _run(fetches, **kwargs):
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    return sess.run(fetches, **kwargs)


def test_a_call_is_one_op_that_the_optimiser_does_not_inline(graph):
  square = graph_function.as_function('square', lambda x: [x * x], [_VECTOR])
  x = tf.placeholder(tf.float32, [2])
  before = len(graph.get_operations())
  y = square([x])[0]
  z = square([y])[0]
  assert len(graph.get_operations()) - before == 2
  metadata = tf.RunMetadata()
  value = _run(
    z,
    feed_dict={x: [1.0, 3.0]},
    options=tf.RunOptions(output_partition_graphs=True),
    run_metadata=metadata,
  )
  np.testing.assert_array_equal(value, [1, 81])
  ops = [n.op for g in metadata.partition_graphs for n in g.node]
  assert 'Mul' not in ops
  assert sum('PartitionedCall' in op for op in ops) == 2


def test_what_is_used_of_outside_is_captured():
  outside = tf.get_variable('v', initializer=[2.0, 3.0])
  twice = 2.0 * outside
  traced = graph_function.trace('f', lambda x: [x * twice], [_VECTOR])
  assert traced.external_captures == [twice]
  function = graph_function.GraphFunction('f', traced)
  y = function([tf.constant([1.0, 1.0]), twice])
  np.testing.assert_array_equal(_run(y[0]), [4, 6])


def test_as_function_takes_nothing_of_outside():
  outside = tf.constant(1.0)
  with pytest.raises(AssertionError, match='f captures'):
    graph_function.as_function('f', lambda x: [x + outside], [_VECTOR])


def test_traces_have_no_devices_and_leave_no_collections_behind(graph):
  with tf.device('/cpu:0'), graph.colocate_with(tf.constant(1.0).op):

    def body(x):
      tf.add_to_collection('mine', x)
      return [tf.tanh(x) * 2.0]

    traced = graph_function.trace('f', body, [_VECTOR])
  assert {op.device for op in traced.get_operations()} == {''}
  assert not any(op.colocation_groups()[1:] for op in traced.get_operations())
  assert len(traced.get_collection('mine')) == 1
  assert not graph.get_collection('mine')


def test_definitions_are_found_through_functions_that_call_functions(graph):
  inner = graph_function.as_function('inner', lambda x: [tf.sin(x)], [_VECTOR])
  outer = graph_function.as_function('outer', _calls(inner), [_VECTOR])
  outer([tf.constant([1.0, 2.0])])
  found = graph_walks.definitions(graph)
  nodes = [n.op for d in found.values() for n in d.node_def]
  assert nodes.count('Sin') == 1
  assert len(found) == 2


def _calls(function):
  return lambda x: function([x])


def test_a_gradient_that_would_go_through_a_call_is_refused():
  square = graph_function.as_function('square', lambda x: [x * x], [_VECTOR])
  x = tf.constant([1.0, 3.0])
  with pytest.raises(ValueError, match="to go through 'call/square', a call"):
    with tf.name_scope('call'):
      [y] = square([x])
    tf.gradients(y + x, x)
  assert tf.gradients(tf.stop_gradient(y) + x, x) is not None


@pytest.mark.parametrize('in_function', [False, True])
def test_a_tape_is_refused_a_gradient_through_a_call_too(in_function):
  def gradient(x, stop):
    with tf.GradientTape() as tape:
      tape.watch(x)
      [y] = square([x])
      z = (tf.stop_gradient(y) if stop else y) + x
    return tape.gradient(z, x)

  with context.eager_mode():
    square = graph_function.as_function('square', lambda x: [x * x], [_VECTOR])
    call = tf2.function(gradient) if in_function else gradient
    x = tf.constant([1.0, 3.0])
    np.testing.assert_array_equal(call(x, True), [1, 1])
    with pytest.raises(ValueError, match="to go through 'square', a call"):
      call(x, False)
