# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context


def _counting_function():
  """A concrete function that returns how often it was called, twice over."""
  calls = []

  def count():
    calls.append(1)
    return np.float32(len(calls)), np.int32([len(calls)] * 2)

  @tf.function(autograph=False)
  def function():
    return tf.numpy_function(count, [], [tf.float32, tf.int32])

  return function, calls


def test_the_function_is_called_once_in_a_session(ops):
  function, calls = _counting_function()
  with tf.Graph().as_default():
    concrete = function.get_concrete_function()
    concrete.add_to_graph()
    outputs = ops.cached_call(f=concrete, T=[tf.float32, tf.int32])
    with tf.compat.v1.Session() as session:
      for _ in range(5):
        x, y = session.run(outputs)
        assert x == 1.0
        assert list(y) == [1, 1]
  assert len(calls) == 1


def test_the_function_is_called_once_in_a_tf_function(ops):
  with context.eager_mode():
    function, calls = _counting_function()
    concrete = function.get_concrete_function()

    @tf.function(autograph=False)
    def outer():
      return ops.cached_call(f=concrete, T=[tf.float32, tf.int32])

    assert [float(outer()[0]) for _ in range(3)] == [1.0] * 3
    assert len(calls) == 1


def test_the_function_is_called_once_eagerly(stand_in_ops):
  with context.eager_mode():
    function, calls = _counting_function()
    concrete = function.get_concrete_function()
    results = [
      stand_in_ops.cached_call(f=concrete, T=[tf.float32, tf.int32])
      for _ in range(3)
    ]
    assert [float(result[0]) for result in results] == [1.0] * 3
    assert len(calls) == 1


def test_types_that_the_function_does_not_return_raise(stand_in_ops):
  with tf.Graph().as_default():
    concrete = _counting_function()[0].get_concrete_function()
    with pytest.raises(ValueError, match='cached_call: T='):
      stand_in_ops.cached_call(f=concrete, T=[tf.float32, tf.float32])
