# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf


def _apply(ops, run, x, padding, ids, indices, dtype=tf.int32):
  return run(
    lambda: ops.apply_packing(
      tf.constant(x, dtype), tf.constant(padding, dtype), ids, indices
    )
  ).tolist()


def test_segments_are_copied_and_gaps_padded(ops, run):
  x = np.arange(24).reshape([6, 4])
  ids = [[0, 0, 0, 1, 0], [1, 1, 1, 1, 0], [1, 2, 3, 4, 4]]
  indices = [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [2, 3, 4, 5, 5]]
  assert _apply(ops, run, x, -1, ids, indices) == [
    [-1, -1, -1, 0, -1],
    [4, 5, 6, 7, -1],
    [8, 12, 16, 20, 21],
  ]


def test_a_segment_does_not_go_on_in_the_next_row(ops, run):
  y = _apply(ops, run, [[1, 2], [3, 4]], 0, [[1, 1], [1, 1]], [[0, 0], [1, 1]])
  assert y == [[1, 2], [3, 4]]


def test_later_dimensions_go_along(ops, run):
  x = np.arange(12).reshape([2, 3, 2])
  y = _apply(ops, run, x, -1, [[1, 2, 2, 0]], [[1, 0, 0, 0]])
  assert y == [[[6, 7], [0, 1], [2, 3], [-1, -1]]]


@pytest.mark.parametrize(
  'dtype',
  ['int32', 'int64', 'uint32', 'uint64', 'float32', 'float64', 'bfloat16'],
)
def test_every_type(ops, run_in_graph, dtype):
  x, padding = [[0, 1], [2, 3]], 99
  arguments = (ops, run_in_graph, x, padding, [[1, 1, 0]], [[1, 1, 0]])
  assert _apply(*arguments, dtype=tf.as_dtype(dtype)) == [[2, 3, 99]]


def test_booleans(ops, run_in_graph):
  arguments = ([[True, False]], True, [[1, 1, 0]], [[0, 0, 0]])
  assert _apply(ops, run_in_graph, *arguments, dtype=tf.bool) == [
    [True, False, True]
  ]


def test_vectors_are_added_up_row_by_row(ops, run):
  ids = [[1, 1, 2, 2], [0, 1, 2, 3], [0, 1, 1, 1], [0, 0, 0, 0]]
  indices = [[2, 2, 3, 3], [9, 4, 5, 6], [9, 8, 8, 8], [9, 9, 9, 9]]
  y = _apply(ops, run, np.arange(10), 0, ids, indices)
  assert y == [5, 15, 8, 0]


def test_strings_are_joined_row_by_row(ops, run):
  ids = [[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 2]]
  indices = [[1, 0, 3, 2], [2, 0, 1, 1], [0, 1, 2, 3], [3, 3, 0, 3]]
  y = _apply(ops, run, ['a', 'b', 'c', 'd'], ';', ids, indices, tf.string)
  assert y == [b'b;a;d', b'a;b', b'', b'd']


def test_an_input_of_unknown_size(ops):
  with tf.Graph().as_default():
    x = tf.compat.v1.placeholder(tf.int32, [None, None])
    y = ops.apply_packing(x, 0, [[1, 1], [1, 1]], [[1, 1], [0, 0]])
    assert y.shape == [2, 2]
    with tf.compat.v1.Session() as session:
      assert session.run(y, {x: [[0, 1], [2, 3]]}).tolist() == [[2, 3], [0, 1]]


def test_an_empty_input_gives_padding(ops, run):
  assert _apply(ops, run, np.zeros([0, 3]), 7, [[1, 1]], [[0, 0]]) == [[7, 7]]


@pytest.mark.parametrize(
  ('x', 'padding', 'dtype', 'ids', 'indices'),
  [
    ([[0, 1], [2, 3]], 0, tf.int32, [[1, 1, 1]], [[1, 1, 1]]),
    ([[0, 1], [2, 3]], 0, tf.int32, [[1, 1]], [[2, 2]]),
    ([[0, 1], [2, 3]], 0, tf.int32, [[1, 1]], [[-1, -1]]),
    (['a', 'b'], ',', tf.string, [[1, 2]], [[1, 2]]),
    ([1, 2], 0, tf.int32, [[1]], [[2]]),
  ],
)
def test_a_pattern_out_of_bounds_raises(
  ops, run, x, padding, dtype, ids, indices
):
  with pytest.raises(tf.errors.InvalidArgumentError, match='out of bound'):
    _apply(ops, run, x, padding, ids, indices, dtype)


@pytest.mark.parametrize(
  ('padding', 'ids', 'indices', 'message'),
  [
    ([0], [[1]], [[0]], 'padding must be a scalar'),
    (0, [1, 1], [0, 0], 'must be matrices'),
    (0, [[1, 1]], [[0]], 'the same shape'),
  ],
)
def test_shapes_that_do_not_fit_raise(ops, padding, ids, indices, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    ops.apply_packing([[1, 2]], padding, ids, indices)


def test_random_patterns_are_applied_as_by_lingvos_own_op(
  stand_in_ops, native_ops, run_in_graph
):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 100, [4, 6])
  for _ in range(20):
    ids = rng.integers(0, 3, [5, 6])
    indices = rng.integers(0, 4, [5, 6])
    for value in (x, x[:, 0]):
      expected, y = (
        _apply(ops, run_in_graph, value, -1, ids, indices)
        for ops in (native_ops, stand_in_ops)
      )
      assert y == expected
