# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether anything before the pipeline needs gradients of its inputs."""

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context

from lingvo_gpipe.pipeline import input_gradients


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default():
    yield


def _variable():
  return tf.get_variable('v', [4, 2], use_resource=True)


def test_data_needs_none():
  x = tf.placeholder(tf.float32, [2, 4])
  assert not input_gradients.may_be_needed([tf.tanh(x) * 2.0, tf.ones([2])])
  assert not input_gradients.may_be_needed([])


@pytest.mark.parametrize(
  'fn',
  [
    lambda v: tf.matmul(tf.ones([2, 4]), v),
    lambda v: tf.nn.embedding_lookup(v, [0, 1]),
    lambda v: tf.reshape(tf.tanh(v), [-1])[1:],
  ],
)
def test_what_comes_from_a_weight_does(fn):
  assert input_gradients.may_be_needed([tf.ones([2]), fn(_variable())])


def test_inside_a_function_a_tensor_of_outside_may():
  with context.eager_mode():
    outside = tf.ones([2])
  assert input_gradients.may_be_needed([outside])


def test_inside_a_function_whatever_comes_from_outside_may():
  needed = []

  @tf.function(autograph=False)
  def fn(x, ids):
    needed.append(input_gradients.may_be_needed([x * 2.0]))
    needed.append(input_gradients.may_be_needed([tf.cast(ids, tf.float32)]))

  fn(tf.ones([2]), tf.constant([1]))
  assert needed == [True, False]
