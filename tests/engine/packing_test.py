# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
import pytest

from lingvo_gpipe.engine import graph_function, graph_walks, packing

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


@pytest.mark.parametrize('packs', [True, False])
def test_what_is_packed_comes_back_in_order(packs):
  with tf.Graph().as_default(), tf.Session() as sess:
    values = _values()
    like = packing.items(values, packs=packs)
    packed = packing.pack(values, like)
    assert len(packed) == (4 if packs else 6)
    back = packing.unpack(packed, like, values)
    assert [t.dtype for t in back] == _DTYPES
    for before, after in zip(*sess.run([values, back]), strict=True):
      np.testing.assert_array_equal(before, after)


def test_a_single_tensor_is_not_packed():
  with tf.Graph().as_default():
    values = [tf.constant(1.0), tf.constant(1)]
    assert packing.items(values) == values
    assert packing.pack(values, values) == values
    assert packing.unpack(values, values, values) == values


def _function():
  """A function of six tensors to six, and the same packed."""
  specs = [tf.TensorSpec(None, dtype) for dtype in _DTYPES]

  def body(i, a, h, s, b, yes):
    with tf.control_dependencies([a]):
      doubled = tf.identity(b) * 2.0
    return [i + 1, a + doubled, h, s + 'b', b, tf.logical_not(yes)]

  graph = graph_function.trace('f', body, specs)
  plain = graph_function.GraphFunction('f', graph)
  return plain, graph_function.GraphFunction(
    'packed', graph, packing.items(graph.inputs), packing.items(graph.outputs)
  )


def _check(function, packed):
  values = _values()
  like = packing.items(values)
  got = packed(packing.pack(values, like))
  assert len(got) == 4
  return function(values), packing.unpack(got, like, values)


def test_a_function_of_packed_tensors_is_the_same_in_a_graph():
  with tf.Graph().as_default(), tf.Session() as sess:
    for one, other in zip(*sess.run(_check(*_function())), strict=True):
      np.testing.assert_array_equal(one, other)


def test_what_is_packed_is_known_from_its_function_if_that_is():
  with tf.Graph().as_default() as graph:
    values = _values()
    arguments = packing.pack(values, packing.items(values))
    packed = _function()[1](arguments)[0]
    dtypes = [tf.float32, tf.bfloat16, tf.float32]
    assert packing.packed_dtypes(arguments[0], {}) == dtypes
    known = graph_walks.definitions(graph)
    assert packing.packed_dtypes(packed, known) == dtypes
    assert packing.packed_dtypes(packed, {}) == []


def test_a_function_of_packed_tensors_is_the_same_eagerly():
  for one, other in zip(*_check(*_function()), strict=True):
    np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_resources_beside_packed_tensors_stay_what_they_are():
  with tf.Graph().as_default(), tf.Session() as sess:
    table = tf.get_variable('t', initializer=[1.0, 2.0, 3.0])
    graph = graph_function.trace(
      'f',
      lambda a, b, handle: [
        a
        + b
        + tf.raw_ops.ResourceGather(
          resource=handle, indices=[2], dtype=tf.float32
        )
      ],
      [
        tf.TensorSpec([1]),
        tf.TensorSpec([]),
        tf.TensorSpec([], tf.resource),
      ],
    )
    function = graph_function.GraphFunction(
      'f', graph, packing.items(graph.inputs)
    )
    values = [tf.constant([1.0]), tf.constant(1.0), table.handle]
    [out] = function(packing.pack(values, packing.items(values)))
    sess.run(tf.global_variables_initializer())
    assert sess.run(out).tolist() == [5.0]
    # Of two arguments the second is the table.
    assert out.op.get_attr('_read_only_resource_inputs') == [1]
