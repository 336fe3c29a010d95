# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import inspect
import os

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from lingvo_gpipe.lingvo_ops import implementations

_INVALID = tf.errors.InvalidArgumentError


@pytest.mark.parametrize('name', implementations.__all__)
def test_arguments_are_lingvos(stand_in_ops, native_ops, name):
  ours, lingvos = (
    inspect.signature(getattr(module, name)).parameters
    for module in (stand_in_ops, native_ops)
  )
  assert list(ours) == list(lingvos)


def _run_fed(build, *values):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    values = [np.asarray(value) for value in values]
    fed = [tf.compat.v1.placeholder(value.dtype) for value in values]
    session.run(build(*fed), dict(zip(fed, values, strict=True)))


def _may_fail(right, message=None):
  if right:
    return contextlib.nullcontext()
  return pytest.raises(_INVALID, match=message)


@pytest.mark.parametrize(
  ('x', 'y', 'right'),
  [
    ([2, 3], [2, 3], True),
    ([2, 3], [-1, 3], True),
    ([-1, -1], [2, 3], True),
    ([2, 4], [2, 3], False),
    ([2], [2, 3], False),
    ([2, 3, 4], [2, 3], False),
    ([], [2, 3], False),
  ],
)
def test_shapes_match(ops, run_traced, x, y, right):
  for a, b in ((x, y), (y, x)):
    with _may_fail(right, 'Yo mismatch shape'):
      run_traced(lambda a=a, b=b: ops.assert_shape_match(a, b, msg='Yo'))
  with _may_fail(right):
    _run_fed(lambda x: ops.assert_shape_match(x, y), np.int32(x))


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
  with _may_fail(right):
    _run_fed(lambda n: ops.assert_shape_match([n, 3], expected), np.int32(n))


@pytest.mark.parametrize(
  ('shapes', 'message'),
  [
    ([[2, 3]], None),
    ([[2, 3, 4], [2]], None),
    ([[0], [0]], None),
    ([[2], []], 'a scalar'),
    ([[], [2]], 'a scalar'),
    ([[2, 3], [2, 3], [3]], 'different dim0'),
  ],
)
def test_equal_dim0(ops, run_traced, shapes, message):
  with _may_fail(not message, message):
    run_traced(lambda: ops.assert_same_dim0([tf.zeros(s) for s in shapes]))
  with _may_fail(not message):
    _run_fed(lambda *fed: ops.assert_same_dim0(fed), *map(np.zeros, shapes))


def test_what_static_shapes_settle_is_not_in_the_graph(stand_in_ops):
  with tf.Graph().as_default() as graph:
    x = tf.compat.v1.placeholder(tf.float32, [None, 3])
    shape = [tf.shape(x)[0], 3]
    stand_in_ops.assert_shape_match(shape, [-1, 3])
    stand_in_ops.assert_same_dim0([tf.zeros([4, 2]), tf.zeros([4])])
    assert not [op for op in graph.get_operations() if op.type == 'Assert']


# Lingvo's own assertions never fire in eager mode: TensorFlow prunes them.
def test_assertions_raise_eagerly_too(stand_in_ops):
  with context.eager_mode():
    assert stand_in_ops.assert_shape_match([1], [1]) is None
    assert stand_in_ops.assert_same_dim0([tf.zeros([1])]) is None
    with pytest.raises(_INVALID, match='Yo mismatch'):
      stand_in_ops.assert_shape_match([1], [2], msg='Yo')
    with pytest.raises(_INVALID, match='different dim0'):
      stand_in_ops.assert_same_dim0([tf.zeros([1]), tf.zeros([2])])


@pytest.fixture
def best_step(ops, run_times):
  """best_step(file, ...): the best and the last step, as a list."""
  return lambda *args, **how: list(
    run_times(lambda: ops.best_step(*args, **how), 1)[0]
  )


_FALLING = '10 3.0\n20 2.75\n30 2.5\n40 2.25\n'
_MIXED = '30 2.0\n10 3.0\n30 0.0\n20 2.5\n'


@pytest.mark.parametrize(
  ('history', 'how', 'want'),
  [
    ('10 3.0\n20 1.0\n30 2.0\n', {}, [20, 30]),
    ('10 3.0\n20 5.0\n30 2.0\n', {'minimize': False}, [20, 30]),
    # Only an improvement by more than tol counts.
    (_FALLING, {'tol': 0.5}, [40, 40]),
    (_FALLING, {'tol': 0.75}, [10, 40]),
    (_FALLING, {'tol': 0.25}, [30, 40]),
    # Of equal scores the first is best.
    ('10 1.0\n20 1.0\n', {}, [10, 20]),
    # Records count in the order of steps, and each step once.
    (_MIXED, {}, [30, 30]),
    (_MIXED + '40 1.0\n', {'tol': 1.0}, [40, 40]),
    # Step 0 is best only while it is alone.
    ('0 1.0\n', {}, [0, 0]),
    ('0 1.0\n10 5.0\n', {}, [10, 10]),
    ('', {}, [0, 0]),
  ],
)
def test_the_best_and_the_last_step(best_step, tmp_path, history, how, want):
  # It is no pattern.
  path = tmp_path / 'h[1]?.txt'
  (tmp_path / 'h1x.txt').write_text('70 -9.0\n')
  path.write_text(history)
  best = best_step(str(path), **how)
  assert best == want
  assert {step.dtype for step in best} == {np.dtype('int64')}


def test_the_history_is_read_anew_in_every_run(ops, tmp_path):
  path = tmp_path / 'history.txt'
  with tf.Graph().as_default():
    best = ops.best_step(str(path))
    with tf.compat.v1.Session() as session:
      for text, step in (('10 3.0\n', 10), ('20 2.0\n', 20)):
        path.write_text(text)
        assert list(session.run(best)) == [step, step]
      os.remove(path)
      assert list(session.run(best)) == [0, 0]


@pytest.mark.parametrize('line', ['10', 'ten 1.0', '10 one'])
def test_a_malformed_line_raises(stand_in_ops, run_traced, tmp_path, line):
  path = tmp_path / 'history.txt'
  path.write_text(f'5 1.0\n{line}\n')
  with pytest.raises(_INVALID):
    run_traced(lambda: stand_in_ops.best_step(str(path)))


def test_event_files_are_refused(stand_in_ops):
  with pytest.raises(NotImplementedError, match='tfevent_file=False'):
    stand_in_ops.best_step('/train/events.out.tfevents.1')


def test_an_epoch_is_a_permutation_with_a_smaller_last_batch(ops, run_times):
  def build():
    return ops.random_permutation_sequence(num=19, batch=7, seed=101)

  batches = run_times(build, 3)
  assert [len(batch) for batch in batches] == [7, 7, 5]
  assert sorted(np.concatenate(batches)) == list(range(19))
  assert batches[0].dtype == np.int32
  with pytest.raises(tf.errors.OutOfRangeError):
    run_times(build, 4)


@pytest.mark.parametrize(('num', 'batch'), [(10, 4), (3, 9)])
def test_with_repeat_batches_are_full_and_every_epoch_is_a_permutation(
  ops, run_times, num, batch
):
  batches = run_times(
    lambda: ops.random_permutation_sequence(
      num=num, batch=batch, repeat=True, seed=103
    ),
    2 * num,
  )
  assert {len(x) for x in batches} == {batch}
  epochs = np.concatenate(batches).reshape([2 * batch, num])
  assert (np.sort(epochs, axis=1) == np.arange(num)).all()
  assert len({tuple(epoch) for epoch in epochs}) > 3


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


@pytest.mark.parametrize(
  'arguments', [{'batch': 0}, {'num': -1}, {'num': 0, 'repeat': True}]
)
def test_impossible_sizes_raise(stand_in_ops, arguments):
  with pytest.raises(ValueError, match='num must be at least'):
    stand_in_ops.random_permutation_sequence(**arguments)


def _counting_function():
  """A function that returns how often it was called, twice over."""
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


@pytest.mark.parametrize('wrap', [lambda f: f, tf.function])
def test_the_function_is_called_once_outside_of_sessions(stand_in_ops, wrap):
  with context.eager_mode():
    function, calls = _counting_function()
    concrete = function.get_concrete_function()

    @wrap
    def outer():
      return stand_in_ops.cached_call(f=concrete, T=[tf.float32, tf.int32])

    assert [float(outer()[0]) for _ in range(3)] == [1.0] * 3
  assert len(calls) == 1
