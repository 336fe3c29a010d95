# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context


def test_an_epoch_is_a_permutation_with_a_smaller_last_batch(ops, run_times):
  batches = run_times(
    lambda: ops.random_permutation_sequence(num=19, batch=7, seed=101), 3
  )
  assert [len(batch) for batch in batches] == [7, 7, 5]
  assert sorted(np.concatenate(batches)) == list(range(19))
  assert batches[0].dtype == np.int32


def test_without_repeat_there_is_one_epoch(ops, run_times):
  def build():
    return ops.random_permutation_sequence(num=5, batch=4, seed=102)

  with pytest.raises(tf.errors.OutOfRangeError):
    run_times(build, 3)


def test_with_repeat_batches_are_full_and_every_epoch_is_a_permutation(
  ops, run_times
):
  batches = run_times(
    lambda: ops.random_permutation_sequence(
      num=10, batch=4, repeat=True, seed=103
    ),
    25,
  )
  assert {len(batch) for batch in batches} == {4}
  epochs = np.concatenate(batches).reshape([10, 10])
  assert (np.sort(epochs, axis=1) == np.arange(10)).all()
  assert len({tuple(epoch) for epoch in epochs}) == 10


def test_a_batch_larger_than_an_epoch_spans_several(ops, run_times):
  (batch,) = run_times(
    lambda: ops.random_permutation_sequence(
      num=3, batch=9, repeat=True, seed=104
    ),
    1,
  )
  assert (np.sort(batch.reshape([3, 3]), axis=1) == np.arange(3)).all()


def _sequences(ops, seed, sessions=1, ops_in_graph=1, graph_seed=None):
  with tf.Graph().as_default():
    tf.compat.v1.set_random_seed(graph_seed)
    fetches = [
      ops.random_permutation_sequence(num=50, batch=50, repeat=True, seed=seed)
      for _ in range(ops_in_graph)
    ]
    results = []
    for _ in range(sessions):
      with tf.compat.v1.Session() as session:
        results += session.run(fetches)
    return [tuple(result) for result in results]


def test_one_seed_gives_one_sequence_in_every_op_and_session(ops):
  assert len(set(_sequences(ops, 7, sessions=2, ops_in_graph=2))) == 1
  assert _sequences(ops, 7) != _sequences(ops, 8)


@pytest.mark.parametrize('graph_seed', [None, 1])
def test_seed_0_gives_another_sequence_each_time(ops, graph_seed):
  found = _sequences(ops, 0, 2, 2, graph_seed)
  assert len(set(found)) == 4


def test_equal_eager_calls_go_on_with_one_sequence(ops):
  with context.eager_mode():
    numbers = [
      int(ops.random_permutation_sequence(num=6, batch=1, seed=105)[0])
      for _ in range(6)
    ]
  assert sorted(numbers) == list(range(6))


def test_every_number_comes_everywhere_alike(stand_in_ops):
  with tf.Graph().as_default():
    fetches = stand_in_ops.random_permutation_sequence(
      num=4, batch=4 * 2000, repeat=True, seed=9
    )
    with tf.compat.v1.Session() as session:
      epochs = session.run(fetches).reshape([2000, 4])
  for column in epochs.T:
    counts = np.bincount(column, minlength=4)
    # 500 each; the standard deviation is 19.4.
    assert np.abs(counts - 500).max() < 6 * 19.4


@pytest.mark.parametrize(
  'arguments',
  [{'batch': 0}, {'num': -1}, {'num': 0, 'repeat': True}],
)
def test_impossible_sizes_raise(stand_in_ops, arguments):
  with pytest.raises(ValueError, match='num must be at least'):
    stand_in_ops.random_permutation_sequence(**arguments)


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
