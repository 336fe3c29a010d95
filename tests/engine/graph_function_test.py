# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Traced functions, their gradients, and calls that are not inlined."""

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context

from lingvo_gpipe.engine import graph_function, graph_walks, graphs

_VECTOR = tf.TensorSpec([2], tf.float32)


def test_a_call_is_one_op_that_the_optimiser_does_not_inline(graph):
  square = graphs.as_function('square', lambda x: [x * x], [_VECTOR])
  x = tf.placeholder(tf.float32, [2])
  before = len(graph.get_operations())
  y = square([x])[0]
  z = square([y])[0]
  assert len(graph.get_operations()) - before == 2
  metadata = tf.RunMetadata()
  with tf.Session() as sess:
    value = sess.run(
      z,
      {x: [1.0, 3.0]},
      tf.RunOptions(output_partition_graphs=True),
      metadata,
    )
  np.testing.assert_array_equal(value, [1, 81])
  ops = [n.op for g in metadata.partition_graphs for n in g.node]
  assert 'Mul' not in ops
  assert sum('PartitionedCall' in op for op in ops) == 2


def test_traces_have_no_devices_and_leave_no_collections_behind(graph):
  with tf.device('/cpu:0'), graph.colocate_with(tf.constant(1.0).op):

    def body(x):
      tf.add_to_collection('mine', x)
      return [tf.tanh(x) * 2.0]

    traced = graphs.trace('f', body, [_VECTOR])
  assert {op.device for op in traced.get_operations()} == {''}
  assert not any(op.colocation_groups()[1:] for op in traced.get_operations())
  assert len(traced.get_collection('mine')) == 1
  assert not graph.get_collection('mine')


@pytest.mark.parametrize('in_function', [False, True])
def test_a_tape_is_refused_a_gradient_through_a_call_too(in_function):
  def gradient(x, stop):
    with tf.GradientTape() as tape:
      tape.watch(x)
      [y] = square([x])
      z = (tf.stop_gradient(y) if stop else y) + x
    return tape.gradient(z, x)

  with context.eager_mode():
    square = graphs.as_function('square', lambda x: [x * x], [_VECTOR])
    call = tf2.function(gradient) if in_function else gradient
    x = tf.constant([1.0, 3.0])
    np.testing.assert_array_equal(call(x, True), [1, 1])
    with pytest.raises(ValueError, match="to go through 'square', a call"):
      call(x, False)


# -- Packing.

_DTYPES = [tf.int32, tf.float32, tf.bfloat16, tf.string, tf.float32, tf.bool]


def _values():
  return [
    tf.constant(2, tf.int32),
    tf.constant([0.5, 3.0]),
    tf.constant([1.5], tf.bfloat16),
    tf.constant('a'),
    tf.constant(4.0),
    tf.constant(True),
  ]


def _function():
  """A function of six tensors to six, and the same packed."""
  specs = [tf.TensorSpec(None, dtype) for dtype in _DTYPES]

  def body(i, a, h, s, b, yes):
    with tf.control_dependencies([a]):
      doubled = tf.identity(b) * 2.0
    return [i + 1, a + doubled, h, s + 'b', b, tf.logical_not(yes)]

  graph = graphs.trace('f', body, specs)
  plain = graph_function.GraphFunction('f', graph)
  return plain, graph_function.GraphFunction(
    'packed',
    graph,
    graph_function.items(graph.inputs),
    graph_function.items(graph.outputs),
  )


def _check(function, packed):
  values = _values()
  got = packed(graph_function.pack(graph_function.items(values)))
  assert len(got) == 4
  return function(values), graph_function.unpack(got, values)


def test_a_function_of_packed_tensors_is_the_same_in_a_graph():
  with tf.Session() as sess:
    for one, other in zip(*sess.run(_check(*_function())), strict=True):
      np.testing.assert_array_equal(one, other)


def test_what_is_packed_is_known_from_its_function_if_that_is(graph):
  arguments = graph_function.pack(graph_function.items(_values()))
  packed = _function()[1](arguments)[0]
  dtypes = [tf.float32, tf.bfloat16, tf.float32]
  assert graph_function.packed_dtypes(arguments[0], {}) == dtypes
  known = graph_walks.definitions(graph)
  assert graph_function.packed_dtypes(packed, known) == dtypes
  assert graph_function.packed_dtypes(packed, {}) == []


def test_a_function_of_packed_tensors_is_the_same_eagerly():
  with context.eager_mode():
    for one, other in zip(*_check(*_function()), strict=True):
      np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_resources_beside_packed_tensors_stay_what_they_are():
  def body(a, b, handle):
    row = tf.raw_ops.ResourceGather(
      resource=handle, indices=[2], dtype=tf.float32
    )
    return [a + b + row]

  table = tf.get_variable('t', initializer=[1.0, 2.0, 3.0])
  values = [tf.constant([1.0]), tf.constant(1.0), table.handle]
  specs = [tf.TensorSpec(t.shape, t.dtype) for t in values]
  graph = graphs.trace('f', body, specs)
  inputs = graph_function.items(graph.inputs)
  function = graph_function.GraphFunction('f', graph, inputs)
  [out] = function(graph_function.pack(graph_function.items(values)))
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    assert sess.run(out).tolist() == [5.0]
  # Of two arguments the second is the table.
  assert out.op.get_attr('_read_only_resource_inputs') == [1]
