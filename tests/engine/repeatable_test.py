# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ops that give something else when they run again are told from the others."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.repeatable import Repeatable

_VECTOR = tf.TensorSpec([2], tf.float32)


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def _culprits(fn):
  traced = graph_function.trace('f', lambda x: [fn(x)], [_VECTOR])
  repeatable = Repeatable(traced, graph_function.definitions(traced))
  return [
    repeatable.culprit(op)
    for op in traced.get_operations()
    if repeatable.culprit(op)
  ]


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


def _counted(x):
  variable = _variable()
  with tf.control_dependencies([variable.assign_add(1.0)]):
    return x * variable.read_value()


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


def test_a_read_of_what_is_written_here_cannot_be_repeated():
  assert sorted(_culprits(_counted)) == [
    'AssignAddVariableOp',
    'ReadVariableOp',
  ]
