# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""An op gives the same in every function; sums are of two."""

import itertools

import lingvo.compat as tf
import numpy as np
import pytest
from tensorflow.python.framework import function

from lingvo_gpipe.engine import graphs

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
def test_sums_are_of_two_wherever_they_are(fn, graph):
  value = np.array([0.5, -1, 2, 0.25], np.float32)
  with tf.Session() as session:
    x = tf.constant(value)
    called = graphs.as_function('f', lambda x: [fn(x)], [_SPEC])
    [result] = called([x])
    definitions = {
      f.signature.name: f for f in graph.as_graph_def().library.function
    }
    copies = [f for name, f in definitions.items() if 'repaired' in name]
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

  f = graphs.as_function('f', fn, [_SPEC])
  assert _sums(f._function.definition) == [3]


def _compare(session, fn, *values):
  """The first result of fn(*tensors), alone and with all that it returns."""
  tensors = [tf.constant(value) for value in values]
  specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]
  alone = graphs.as_function('f', lambda *x: [fn(*x)[0]], specs)
  with_rest = graphs.as_function('f', lambda *x: [*fn(*x)], specs)
  results = session.run([alone(tensors)[0], with_rest(tensors)[0]])
  np.testing.assert_array_equal(*results)
  return results[0]


def test_padding_does_not_depend_on_who_reads_it():
  def fn(x, w):
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 2], [0, 0]])
    return tf.nn.conv2d(padded, w, 1, 'VALID'), padded

  random = np.random.default_rng(0)
  with tf.Session() as session:
    _compare(
      session,
      fn,
      random.standard_normal((3, 7, 6, 8), np.float32),
      random.standard_normal((3, 3, 8, 8), np.float32),
    )


def test_a_bias_gradient_is_of_the_output_that_it_reads():
  def fn(a, b, x):
    a, b = tf.raw_ops.IdentityN(input=[a, b])
    filters = tf.raw_ops.Conv2DBackpropFilter(
      input=x,
      filter_sizes=[3, 3, 4, 4],
      out_backprop=b,
      strides=[1, 1, 1, 1],
      padding='SAME',
    )
    return tf.raw_ops.BiasAddGrad(out_backprop=a), filters

  images = np.ones((2, 1, 4, 4), np.float32)
  with tf.Session() as session:
    sums = _compare(session, fn, np.ones((5, 24), np.float32), images, images)
  np.testing.assert_array_equal(sums, [5.0] * 24)


@pytest.mark.parametrize(
  ('pool', 'shape'),
  [
    (tf.nn.max_pool2d, (2, 7, 6, 3)),
    (tf.nn.max_pool3d, (2, 3, 7, 6, 3)),
  ],
)
@pytest.mark.parametrize(
  ('window', 'stride', 'padding'), [(3, 1, 'SAME'), (2, 2, 'VALID')]
)
def test_gradients_of_pooling_are_those_of_tensorflow(
  pool, shape, window, stride, padding
):
  # Rounded, so that windows have several maxima.
  values = np.round(np.random.RandomState(1).randn(*shape)).astype(np.float32)

  def gradient(x):
    pooled = pool(x, window, stride, padding)
    factors = tf.reshape(
      tf.range(tf.size(pooled), dtype=tf.float32), tf.shape(pooled)
    )
    return tf.gradients(pooled * factors, x)

  with tf.Session() as session:
    # What is constant would be pooled beforehand, by another kernel.
    x = tf.placeholder(tf.float32, shape)
    function = graphs.as_function(
      'f', gradient, [tf.TensorSpec(shape, tf.float32)]
    )
    ours, theirs = session.run([function([x])[0], gradient(x)[0]], {x: values})
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
  assert np.abs(ours).max() > 0


def test_explicit_padding_and_format_of_pooling_are_kept():
  padding = [[0, 0], [1, 0], [0, 1], [0, 0]]
  spec = tf.TensorSpec([1, 4, 4, 2], tf.float32)
  graph = graphs.trace(
    'f', lambda x: [tf.nn.max_pool2d(x, 2, 1, padding)], [spec]
  )
  with graph.as_default():
    [gradient] = tf.gradients(graph.outputs, graph.inputs)
  [own] = [op for op in graph.get_operations() if op.type == 'MaxPoolGrad']
  _, again, _ = own.inputs
  assert again.op is not graph.outputs[0].op
  for op in (own, again.op):
    assert list(op.get_attr('explicit_paddings')) == [
      *itertools.chain(*padding)
    ]
  assert gradient.shape == spec.shape
