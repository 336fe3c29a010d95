# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins act like their variables' values."""

import lingvo.compat as tf
import numpy as np
import pytest

from lingvo_gpipe.pipeline.variable_stand_in import VariableStandIn

_VALUE = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


@pytest.fixture
def stand_in():
  variable = tf.get_variable(
    'layer/w/var', initializer=np.zeros_like(_VALUE), use_resource=True
  )
  return VariableStandIn(variable, lambda: tf.constant(_VALUE), [], 'd1')


def _run(x):
  with tf.Session() as sess:
    return sess.run(x)


@pytest.mark.parametrize(
  'fn',
  [
    lambda v: v + 1.0,
    lambda v: 1.0 + v,
    lambda v: v - 1.0,
    lambda v: 2.0 / v,
    lambda v: v**2,
    lambda v: abs(v),
    lambda v: v @ v,
    lambda v: v > 0.0,
    lambda v: v[1],
    lambda v: tf.matmul(v, v),
    lambda v: tf.concat([v, v], axis=0),
    lambda v: tf.nn.embedding_lookup(v, [1, 0]),
  ],
)
def test_operations_are_those_of_the_value(stand_in, fn):
  np.testing.assert_array_equal(
    _run(fn(stand_in)), _run(fn(tf.constant(_VALUE)))
  )


def test_properties(stand_in):
  assert stand_in.name == 'layer/w/var:0'
  assert stand_in.shape == stand_in.get_shape() == [2, 2]
  assert stand_in.dtype == tf.float32
  assert stand_in.trainable
  # Anything else a tensor has.
  assert stand_in.op.type == 'Const'
  assert stand_in.read_value() is stand_in.value()
  with pytest.raises(ValueError, match='float32'):
    tf.convert_to_tensor(stand_in, tf.int32)
