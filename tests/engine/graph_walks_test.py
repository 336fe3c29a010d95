# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which ops repeat themselves, and what may need gradients."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_walks, graphs

_VECTOR = tf.TensorSpec([2], tf.float32)


def _culprits(fn):
  traced = graphs.trace('f', lambda x: [fn(x)], [_VECTOR])
  return list(graph_walks.unrepeatable(traced).values())


def _variable():
  return tf.get_variable('v', initializer=1.0, use_resource=True)


def _while(body):
  return lambda x: tf.while_loop(
    lambda i, _: i < 3, lambda i, y: (i + 1, body(y)), (0, x)
  )[1]


def _checked(x):
  with tf.control_dependencies([tf.debugging.assert_less(x, 10.0)]):
    return tf.debugging.check_numerics(x, 'x')


@pytest.mark.parametrize(
  'fn',
  [
    tf.tanh,
    lambda x: x * _variable(),
    lambda x: tf.gather(_variable() * [1.0, 2.0], [0, 1]) + x,
    lambda x: x + tf.random.stateless_uniform([2], [1, 2]),
    _checked,
    _while(tf.sin),
    lambda x: tf.cond(x[0] > 0, lambda: tf.sin(x), lambda: x),
    lambda x: tf.numpy_function(np.sin, [x], tf.float32, stateful=False),
  ],
)
def test_what_gives_the_same_again(fn):
  assert not _culprits(fn)


@pytest.mark.parametrize(
  ('fn', 'culprit'),
  [
    (lambda x: x + tf.random.uniform([2]), 'RandomUniform'),
    (lambda x: tf.numpy_function(np.sin, [x], tf.float32), 'PyFunc'),
    (lambda x: x + tf.cast(tf.timestamp(), tf.float32), 'Timestamp'),
    (_while(lambda y: y + tf.random.normal([2])), 'RandomStandardNormal'),
    (
      lambda x: tf.cond(
        x[0] > 0, lambda: x + tf.random.uniform([2]), lambda: x
      ),
      'RandomUniform',
    ),
    (lambda x: tf.Print(x, [x]), 'Print'),
  ],
)
def test_what_does_not(fn, culprit):
  assert _culprits(fn) == [culprit]


@pytest.mark.parametrize(
  ('read', 'culprit'),
  [
    (lambda v: v.read_value(), 'ReadVariableOp'),
    (lambda v: tf.function(v.read_value)(), 'StatefulPartitionedCall'),
    (
      lambda v: tf.raw_ops.ReadVariableOp(
        resource=tf.identity(v.handle), dtype=tf.float32
      ),
      'ReadVariableOp',
    ),
  ],
)
def test_a_read_of_what_is_written_here_cannot_be_repeated(read, culprit):
  def count(x):
    variable = _variable()
    y = x * read(variable)
    variable.assign_add(1.0)
    return y

  assert set(_culprits(count)) == {'AssignAddVariableOp', culprit}
  with tf.Graph().as_default():
    assert not _culprits(lambda x: x * read(_variable()))


def _table():
  return tf.get_variable('v', [4, 2], use_resource=True)


def test_data_needs_none():
  x = tf.placeholder(tf.float32, [2, 4])
  assert not graph_walks.may_need_gradients([tf.tanh(x) * 2.0, tf.ones([2])])
  assert not graph_walks.may_need_gradients([])


@pytest.mark.parametrize(
  'fn',
  [
    lambda v: tf.matmul(tf.ones([2, 4]), v),
    lambda v: tf.nn.embedding_lookup(v, [0, 1]),
    lambda v: tf.reshape(tf.tanh(v), [-1])[1:],
  ],
)
def test_what_comes_from_a_weight_does(fn):
  assert graph_walks.may_need_gradients([tf.ones([2]), fn(_table())])


def test_inside_a_function_whatever_comes_from_outside_may():
  needed = []

  @tf.function(autograph=False)
  def fn(x, ids):
    needed.append(graph_walks.may_need_gradients([x * 2.0]))
    needed.append(graph_walks.may_need_gradients([tf.cast(ids, tf.float32)]))

  fn(tf.ones([2]), tf.constant([1]))
  assert needed == [True, False]
