# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import flops
from lingvo_gpipe.costing.static_values import Frame
from lingvo_gpipe.engine import graph_walks, graphs

_NUMBERS = 5 * 4
_SPEC = tf.TensorSpec([5, 4], tf.float32)


def count(fn, *specs):
  with tf.Graph().as_default():
    args = [tf.placeholder(x.dtype, x.shape) for x in specs or [_SPEC]]
    ops = graph_walks.needed(tf.nest.flatten(fn(*args)))
    return flops.count(ops, Frame())


def test_a_function_of_each_number_counts_one_and_moving_or_integers_none():
  assert count(lambda x: tf.exp(tf.nn.relu(x)) + 1.0) == 3 * _NUMBERS
  assert count(lambda x: tf.nn.softmax(x)) == 5 * _NUMBERS
  assert count(lambda x: tf.reduce_sum(x, 1)) == _NUMBERS
  einsum = tf.raw_ops.Einsum
  assert count(lambda x: einsum(inputs=[x], equation='ij->i')) == _NUMBERS
  assert count(lambda x: einsum(inputs=[x], equation='ij->ji')) == 0
  assert count(lambda x: tf.reshape(x, tf.shape(x) * 2 // 2)) == 0


@pytest.mark.parametrize(
  ('equation', 'a', 'b', 'product'),
  [
    ('ij,jk->ik', (2, 3), (3, 5), 2 * 3 * 5),
    ('bij,bjk->bik', (4, 2, 3), (4, 3, 5), 4 * 2 * 3 * 5),
    ('BTNH,BSNH->BNTS', (2, 3, 4, 5), (2, 6, 4, 5), 2 * 3 * 6 * 4 * 5),
    ('i,j->ij', (3,), (5,), 3 * 5),
    ('...j,jk->...k', (7, 2, 3), (3, 5), 7 * 2 * 3 * 5),
    ('...ij,...jk->...ik', (1, 2, 3), (4, 3, 5), 4 * 2 * 3 * 5),
  ],
)
def test_einsum_meets_each_combination_of_labels(equation, a, b, product):
  specs = [tf.TensorSpec(shape, tf.float32) for shape in (a, b)]
  # The op itself: tf.einsum rewrites some equations.
  counted = count(
    lambda x, y: tf.raw_ops.Einsum(inputs=[x, y], equation=equation), *specs
  )
  assert counted == 2 * product


def test_functions_count_at_each_call():
  def fn(x):
    inner = graphs.as_function('inner', lambda y: [tf.tanh(y)], [_SPEC])
    return inner(inner([x]))[0]

  assert count(fn) == 2 * _NUMBERS


def test_function_traced_for_unknown_sizes_is_counted_for_those_given():
  def fn(x):
    unknown = tf.TensorSpec([None, None], tf.float32)
    return graphs.as_function('inner', lambda y: [y * y], [unknown])([x])[0]

  assert count(fn) == _NUMBERS


def test_conditional_counts_as_its_dearest_branch():
  def fn(x):
    return tf.cond(
      tf.reduce_any(x > 0.0), lambda: x, lambda: tf.exp(x) * tf.exp(-x)
    )

  assert count(fn) == _NUMBERS + 4 * _NUMBERS  # The comparison, the branch.


@pytest.mark.parametrize(
  ('start', 'step', 'test', 'trips'),
  [
    (0, 1, lambda i: i < 7, 7),
    (9, -2, lambda i: i >= 1, 5),
    (3, 1, lambda i: i < 3, 0),
    (0, 1, lambda i: tf.logical_and(i < 7, i < 5), 5),
    (0, 1, lambda i: i + 2 < 7, 5),
  ],
)
def test_loops_count_as_often_as_they_run(start, step, test, trips):
  def fn(x):
    return tf.while_loop(
      lambda i, y: test(i), lambda i, y: (i + step, tf.tanh(y)), (start, x)
    )[1]

  assert count(fn) == trips * _NUMBERS


def test_loop_up_to_a_dimension_or_a_value_of_an_input():
  def up_to(limit):
    return lambda x: tf.while_loop(
      lambda i, y: i < limit(x), lambda i, y: (i + 1, tf.tanh(y)), (0, x)
    )[1]

  assert count(up_to(lambda x: tf.shape(x)[0] - 1)) == 4 * _NUMBERS

  def no_padding(x):
    # Inputs are taken to be zeros.
    padded = tf.reduce_sum(tf.cast(tf.not_equal(x[:, 0], 0.0), tf.int32))
    return tf.shape(x)[0] - padded

  counts = count(up_to(no_padding))
  assert 5 * _NUMBERS <= counts <= 5 * _NUMBERS + 40


def test_loop_with_a_greatest_number_of_runs():
  def fn(x):
    return tf.while_loop(
      lambda y: tf.reduce_sum(y) < 1.0,
      lambda y: [y * 2.0],
      [x],
      maximum_iterations=6,
    )

  # The condition's sum and comparison as well.
  assert count(fn) == 6 * _NUMBERS + 7 * (_NUMBERS + 1)


def test_loop_in_a_loop():
  def repeat(times, function, y):
    return tf.while_loop(
      lambda i, z: i < times, lambda i, z: (i + 1, function(z)), (0, y)
    )[1]

  twice = count(lambda x: repeat(4, lambda y: repeat(3, tf.tanh, y), x))
  assert twice == 12 * _NUMBERS


def _unknown_loop(x):
  return tf.while_loop(
    lambda y: tf.reduce_sum(y) < 1.0, lambda y: [y * 2.0], [x]
  )


def _unknown_op(x):
  square = tf.matmul(x, x, transpose_a=True)
  return tf.linalg.inv(tf.linalg.inv(square))


def _unknown_size(x):
  return tf.exp(tf.exp(tf.boolean_mask(x, x[:, 0] > 0.0)))


@pytest.mark.parametrize(
  ('fn', 'counted', 'words'),
  [
    (_unknown_loop, _NUMBERS + 2 * (_NUMBERS + 1), 'is not known beforehand'),
    (_unknown_op, 2 * _NUMBERS * 4, 'FLOPs of MatrixInverse are not counted'),
    (_unknown_size, 5, 'FLOPs of Exp are not counted where a size is not'),
  ],
)
def test_what_is_not_known_is_logged_once(fn, counted, words, caplog):
  flops._logged.clear()
  with caplog.at_level('INFO'):
    assert count(fn) == counted
    count(fn)
  assert caplog.text.count(words) == 1
