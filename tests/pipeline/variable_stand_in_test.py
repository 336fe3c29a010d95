# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins act like their variables' values."""

import lingvo.compat as tf
import numpy as np
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.pipeline.variable_stand_in import VariableStandIn

_VALUE = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


@pytest.fixture
def stand_in():
  return _stand_in()


def _stand_in(updates=None, reads=None):
  variable = tf.get_variable(
    'layer/w/var', initializer=np.zeros_like(_VALUE), use_resource=True
  )

  def read():
    if reads is not None:
      reads.append(1)
    return tf.constant(_VALUE)

  return VariableStandIn(
    variable, read, [] if updates is None else updates, 'd1'
  )


def _run(x):
  with tf.Session() as sess:
    return sess.run(x)


@pytest.mark.parametrize(
  'fn',
  [
    lambda v: v + 1.0,
    lambda v: 1.0 + v,
    lambda v: v - 1.0,
    lambda v: 1.0 - v,
    lambda v: 2.0 * v,
    lambda v: v * 2.0,
    lambda v: v / 2.0,
    lambda v: 2.0 / v,
    lambda v: v // 2.0,
    lambda v: v**2,
    lambda v: -v,
    lambda v: abs(v),
    lambda v: v @ v,
    lambda v: v > 0.0,
    lambda v: v[1],
    lambda v: tf.matmul(v, v),
    lambda v: tf.concat([v, v], axis=0),
    lambda v: tf.nn.embedding_lookup(v, [1, 0]),
    lambda v: tf.cast(v, tf.float64),
    lambda v: tf.identity(v),
    lambda v: tf.reduce_sum(tf.stack([v, v])),
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
  with pytest.raises(ValueError, match='layer/w/var:0 is float32, not int32'):
    tf.convert_to_tensor(stand_in, tf.int32)


def test_the_value_is_read_once_and_only_if_used():
  reads = []
  stand_in = _stand_in(reads=reads)
  assert stand_in.name
  assert not reads
  assert stand_in + stand_in is not None
  assert len(reads) == 1


@pytest.mark.parametrize('method', ['assign', 'assign_add', 'assign_sub'])
def test_assignments_are_refused_with_what_to_use(stand_in, method):
  with pytest.raises(ValueError) as error:
    getattr(stand_in, method)(1.0)
  message = str(error.value)
  for part in ("'d1'", f'{method}()', 'layer/w/var:0', 'RegisterAccumulator'):
    assert part in message


def test_moving_averages_are_noted_and_not_updated(graph):
  updates = []
  stand_in = _stand_in(updates)
  statistic = tf.constant(np.full([2, 2], 5.0, np.float32))
  py_utils.UpdateBatchNormVars(stand_in, statistic, decay=0.75)
  [update] = updates
  assert update.variable.name == 'layer/w/var:0'
  np.testing.assert_allclose(_run(update.delta), (_VALUE - 5) * 0.25)
  np.testing.assert_array_equal(_run(update.statistic), np.full([2, 2], 5.0))
  assert not any(
    op.type == 'AssignSubVariableOp' for op in graph.get_operations()
  )
