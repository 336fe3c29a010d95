# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context


@pytest.mark.parametrize(
  'y', [[10, 20, 30], [-1, -1, -1], [-1, 20, -1], [10, -1, 30]]
)
def test_matching_shapes_pass(ops, run, y):
  run(lambda: ops.assert_shape_match([10, 20, 30], y))
  run(lambda: ops.assert_shape_match(y, [10, 20, 30]))


@pytest.mark.parametrize('y', [[10, 20], [10, 20, 31], [-1, 21, -1], []])
def test_a_mismatch_raises_and_the_message_begins_with_msg(ops, run_traced, y):
  with pytest.raises(tf.errors.InvalidArgumentError, match='Yo mismatch shape'):
    run_traced(lambda: ops.assert_shape_match([10, 20, 30], y, msg='Yo'))


def test_shapes_that_are_not_vectors_raise(ops, run_traced):
  with pytest.raises(tf.errors.InvalidArgumentError, match='vector'):
    run_traced(lambda: ops.assert_shape_match(3, [3]))


def _run_fed(build, *values):
  """Runs an assertion on what is known at run time only."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    values = [np.asarray(value) for value in values]
    fed = [tf.compat.v1.placeholder(value.dtype) for value in values]
    session.run(build(*fed), dict(zip(fed, values, strict=True)))


_MAY_BE_WRONG = {
  True: contextlib.nullcontext(),
  False: pytest.raises(tf.errors.InvalidArgumentError),
}


@pytest.mark.parametrize(
  ('fed', 'expected', 'right'),
  [
    ([2, 3], [2, 3], True),
    ([2, 3], [-1, 3], True),
    ([2, 4], [2, 3], False),
    ([2], [2, 3], False),
    ([2, 3, 4], [2, 3], False),
  ],
)
def test_shapes_known_at_run_time_only(ops, fed, expected, right):
  with _MAY_BE_WRONG[right]:
    _run_fed(
      lambda x: ops.assert_shape_match(tf.shape(x), expected), np.zeros(fed)
    )


@pytest.mark.parametrize(
  ('n', 'expected', 'right'),
  [
    (2, [2, 3], True),
    (4, [2, 3], False),
    # One known dimension settles it, whatever the others.
    (2, [2, 4], False),
  ],
)
def test_a_shape_list_with_a_tensor_in_it(ops, n, expected, right):
  with _MAY_BE_WRONG[right]:
    _run_fed(lambda n: ops.assert_shape_match([n, 3], expected), np.int32(n))


def test_what_static_shapes_settle_is_not_in_the_graph(stand_in_ops):
  with tf.Graph().as_default() as graph:
    x = tf.compat.v1.placeholder(tf.float32, [None, 3])
    shape = [tf.shape(x)[0], 3]
    stand_in_ops.assert_shape_match(shape, [-1, 3])
    stand_in_ops.assert_same_dim0([tf.zeros([4, 2]), tf.zeros([4])])
    assert not [op for op in graph.get_operations() if op.type == 'Assert']


def test_assertions_are_ops_in_a_graph_and_none_eagerly(ops):
  with tf.Graph().as_default():
    assert isinstance(ops.assert_shape_match([1], [1]), tf.Operation)
    assert isinstance(ops.assert_same_dim0([tf.zeros([1])]), tf.Operation)
  with context.eager_mode():
    assert ops.assert_shape_match([1], [1]) is None
    assert ops.assert_same_dim0([tf.zeros([1])]) is None


@pytest.mark.parametrize(
  'shapes', [[[2, 3]], [[2, 3, 4], [2]], [[2, 3], [2, 8], [2]], [[0], [0]]]
)
def test_equal_dim0_passes(ops, run, shapes):
  run(lambda: ops.assert_same_dim0([tf.zeros(shape) for shape in shapes]))


@pytest.mark.parametrize(
  ('shapes', 'message'),
  [
    ([[2], []], 'a scalar'),
    ([[], [2]], 'a scalar'),
    ([[2, 3], [3, 2]], 'different dim0'),
    ([[2, 3], [2, 3], [3]], 'different dim0'),
  ],
)
def test_scalars_and_different_dim0_raise(ops, run_traced, shapes, message):
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    run_traced(
      lambda: ops.assert_same_dim0([tf.zeros(shape) for shape in shapes])
    )


@pytest.mark.parametrize(
  ('x', 'y', 'right'),
  [((2, 3), (2,), True), ((2, 3), (3,), False), ((), (2,), False)],
)
def test_dim0_known_at_run_time_only(ops, x, y, right):
  with _MAY_BE_WRONG[right]:
    _run_fed(
      lambda *fed: ops.assert_same_dim0(fed), np.zeros(x), np.zeros(y, np.int32)
    )


def test_no_tensors_at_all_have_equal_dim0(stand_in_ops, run):
  run(lambda: stand_in_ops.assert_same_dim0([]))


# Lingvo's own assertions never fire in eager mode: TensorFlow prunes them.
def test_assertions_raise_eagerly_too(stand_in_ops):
  invalid = tf.errors.InvalidArgumentError
  with context.eager_mode():
    with pytest.raises(invalid, match='Yo mismatch'):
      stand_in_ops.assert_shape_match([1], [2], msg='Yo')
    with pytest.raises(invalid, match='different dim0'):
      stand_in_ops.assert_same_dim0([tf.zeros([1]), tf.zeros([2])])
