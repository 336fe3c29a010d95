# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cutting a mini-batch into micro-batches, and joining them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import micro_batches


@pytest.mark.parametrize(
  ('batch', 'count', 'size', 'sizes'),
  [
    (10, 4, None, (3, 3, 2, 2)),
    (10, None, 4, (4, 4, 2)),
    (8, 4, None, (2, 2, 2, 2)),
    (8, 4, 2, (2, 2, 2, 2)),
    (7, 4, 2, (2, 2, 2, 1)),
    (3, 5, None, (1, 1, 1)),
    (5, None, 8, (5,)),
    (1, 1, None, (1,)),
    (None, 3, None, (None, None, None)),
  ],
)
def test_sizes(batch, count, size, sizes):
  chosen = micro_batches.choose_sizes(batch, count, size)
  assert chosen.sizes == sizes
  assert chosen.count == len(sizes)
  assert chosen.batch == batch


@pytest.mark.parametrize(
  ('batch', 'count', 'size', 'message'),
  [
    (0, 1, None, 'has 0 examples'),
    (None, None, 4, 'micro_batch_size is 4.*set num_micro_batches'),
    (8, 3, 2, 'a mini-batch of 8 makes 4.*set num_micro_batches to 4'),
  ],
)
def test_sizes_that_cannot_be(batch, count, size, message):
  with pytest.raises(ValueError, match=message):
    micro_batches.choose_sizes(batch, count, size)


def _evaluate(nest):
  with tf.Session() as sess:
    return sess.run(nest)


def test_parts_joined_again_are_the_whole():
  x = np.arange(42).reshape(2, 7, 3)
  # A mask has no examples, and goes whole into each part.
  mask = tf.constant([4, 5, 6])
  nest = {'a': tf.constant(x), 'b': [None, tf.constant(x > 20)], 'c': mask}
  sizes = micro_batches.choose_sizes(7, 3, None)
  dims = [1, None, 1, None]
  parts = micro_batches.split(nest, dims, sizes)
  assert [p['a'].shape[1] for p in parts] == [3, 2, 2]
  assert all(p['b'][0] is None for p in parts)
  whole = micro_batches.merge(parts, dims)
  assert whole['b'][0] is None
  got = _evaluate(
    (
      *(p['c'] for p in (*parts, whole)),
      parts[1]['a'],
      whole['a'],
      whole['b'][1],
    )
  )
  expected = (*[[4, 5, 6]] * 4, x[:, 3:5], x, x > 20)
  for value, wanted in zip(got, expected, strict=True):
    np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
  ('batch', 'sizes'), [(10, [3, 3, 2, 2]), (4, [1] * 4), (2, [1, 1, 0, 0])]
)
def test_sizes_at_run_time_are_those_of_the_known_batch(batch, sizes):
  got = micro_batches.sizes_at_run_time(
    4,
    tf.placeholder_with_default(np.int64(batch), []),
    may_be_empty=True,
    what='net',
  )
  assert _evaluate(got).tolist() == sizes


def test_a_batch_too_small_at_run_time_fails_if_none_may_be_empty():
  sizes = micro_batches.sizes_at_run_time(
    4,
    tf.placeholder_with_default(np.int64(3), []),
    may_be_empty=False,
    what='net',
  )
  with pytest.raises(
    tf.errors.InvalidArgumentError,
    match=r'net: the mini.*num_micro_batches \(4\)',
  ):
    _evaluate(sizes)


def test_gradients_of_parts_are_joined_and_those_of_the_whole_cut():
  rows = [[tf.constant([1.0, 2.0])] * 2, [tf.constant([3.0])] * 2]
  rows[1][1] = tf.constant([4.0, 6.0])
  joined = micro_batches.merge_gradients(rows, [0, None])
  cut = micro_batches.split_gradients(joined, rows, [0, None])
  half = micro_batches.merge_gradients(
    [[tf.constant(256.0, tf.bfloat16)], *[[tf.ones([], tf.bfloat16)]] * 4],
    [None],
  )
  got = _evaluate([joined, cut, half])
  assert [g.tolist() for g in got[0]] == [[1, 2, 3], [5, 8]]
  assert [[g.tolist() for g in row] for row in got[1]] == [
    [[1, 2], [5, 8]],
    [[3], [0, 0]],
  ]
  # In bfloat16 256 + 1 is 256.
  assert got[2] == [260]


def test_batch_size_is_that_of_any_tensor_that_knows_it():
  unknown = tf.placeholder(tf.float32, [None, 2])
  nothing = tf.placeholder(tf.float32)
  known = tf.zeros([5, 3])
  given = [('a', unknown, 0), ('b', nothing, 0), ('c', known, 0)]
  assert micro_batches.batch_size(given) == (5, given[2])
  assert micro_batches.batch_size(given[:2]) == (None, given[0])


def test_batch_size_errors():
  a, b = tf.zeros([5, 3]), tf.zeros([4, 3])
  with pytest.raises(
    ValueError, match=r'a of shape \(5, 3\).*b of shape \(4, 3\).*shared_inp'
  ):
    micro_batches.batch_size([('a', a, 0), ('b', b, 0)])
  assert micro_batches.batch_size([('a', a, 1), ('b', b, 1)])[0] == 3
  with pytest.raises(ValueError, match=r'no dimension 2 \(batch_dim\)'):
    micro_batches.batch_size([('a', a, 2)])
  with pytest.raises(ValueError, match='no tensor to cut'):
    micro_batches.batch_size([])
