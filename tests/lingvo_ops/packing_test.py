# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
import tensorflow as tf


def _pack(ops, run, src, tgt, *args, **kwargs):
  outputs = run(
    lambda: tuple(
      ops.pack_sequences(
        tf.constant(src, tf.int32), tf.constant(tgt, tf.int32), *args, **kwargs
      )
    )
  )
  return [output.tolist() for output in outputs]


def test_pairs_go_where_both_sides_fit(ops, run):
  outputs = _pack(ops, run, [3, 2, 1], [4, 1, 5], 2, 4, 6)
  assert outputs == [
    [[1, 1, 1, 0], [1, 1, 2, 0]],
    [[0, 1, 2, 0], [0, 1, 0, 0]],
    [[0, 0, 0, 0], [1, 1, 2, 0]],
    [[1, 1, 1, 1, 0, 0], [1, 2, 2, 2, 2, 2]],
    [[0, 1, 2, 3, 0, 0], [0, 0, 1, 2, 3, 4]],
    [[0, 0, 0, 0, 0, 0], [1, 2, 2, 2, 2, 2]],
  ]


def test_the_first_pairs_get_a_row_each(ops, run):
  outputs = _pack(ops, run, [3, 1, 2], [4, 2, 1], 2, 5, 5)
  assert outputs[0] == [[1, 1, 1, 2, 2], [1, 0, 0, 0, 0]]
  assert outputs[2] == [[0, 0, 0, 2, 2], [1, 0, 0, 0, 0]]


def test_too_few_pairs_leave_rows_empty(ops, run):
  outputs = _pack(ops, run, [1], [2], 3, 3, 3)
  assert outputs[0] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
  assert outputs[3] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_pairs_too_long_or_empty_are_dropped(ops, run):
  outputs = _pack(ops, run, [1, 3, 0, 1, 2], [4, 1, 1, 0, 2], 2, 2, 3)
  assert outputs[2] == [[4, 4], [0, 0]]
  assert outputs[3] == [[1, 1, 0], [0, 0, 0]]


def test_batch_size_0_gives_as_many_rows_as_come_out(ops, run):
  src, tgt = [3, 1, 2, 0, 2, 4], [4, 2, 1, 1, 5, 1]
  outputs = _pack(ops, run, src, tgt, 0, 5, 5)
  assert outputs[0] == [[1, 1, 1, 2, 2], [1, 2, 2, 2, 2], [1, 1, 0, 0, 0]]
  assert outputs[2] == [[0, 0, 0, 2, 2], [1, 5, 5, 5, 5], [4, 4, 0, 0, 0]]
  assert _pack(ops, run, [], [], 0, 2, 2)[0] == [[0, 0]]


def test_a_row_too_many_is_dropped_and_the_seed_decides(ops):
  def kept(seed):
    with tf.Graph().as_default():
      outputs = ops.pack_sequences([2, 1, 2], [1, 2, 1], 1, 2, 2, seed=seed)
      with tf.compat.v1.Session() as session:
        return [
          session.run(outputs.src_indices_in_input)[0, 0] for _ in range(20)
        ]

  assert set(kept(5)) == {0, 1, 2}
  assert kept(5) == kept(5)


def test_rows_are_dropped_all_alike(stand_in_ops):
  with tf.Graph().as_default():
    lengths = tf.ones([5], tf.int32)
    outputs = stand_in_ops.pack_sequences(lengths, lengths, 2, 1, 1, seed=3)
    counts = np.zeros([5])
    with tf.compat.v1.Session() as session:
      for _ in range(600):
        rows = session.run(outputs.src_indices_in_input)[:, 0]
        assert len(set(rows)) == 2
        counts[rows] += 1
  # 240 each; the standard deviation is 12.
  assert np.abs(counts - 240).max() < 6 * 12


def test_lengths_of_two_sizes_or_of_another_rank_raise(ops, run_traced):
  with pytest.raises(tf.errors.InvalidArgumentError, match='the same shape'):
    _pack(ops, run_traced, [1, 1, 1], [1, 1], 2, 2, 2)
  with pytest.raises(tf.errors.InvalidArgumentError, match='must be a vector'):
    _pack(ops, run_traced, [[1], [1]], [[1], [1]], 2, 2, 2)


def test_lengths_of_unknown_shape(ops):
  with tf.Graph().as_default():
    lengths = tf.compat.v1.placeholder(tf.int32)
    outputs = ops.pack_sequences(lengths, lengths, 2, 5, 5)
    assert outputs.src_segment_ids.shape == [2, 5]
    with tf.compat.v1.Session() as session:
      ids = session.run(outputs.src_segment_ids, {lengths: [1, 2, 1]})
  assert ids.tolist() == [[1, 2, 0, 0, 0], [1, 1, 0, 0, 0]]


def _single(ops, run, lengths, room, **kwargs):
  ids, indices = run(
    lambda: tuple(
      ops.pack_single_sequence(
        input_lengths=tf.constant(lengths, tf.int32),
        max_packed_length=room,
        **kwargs,
      )
    )
  )
  return ids.tolist(), indices.tolist()


def test_best_fit_decreasing(ops, run):
  ids, indices = _single(ops, run, [5, 4, 3, 2, 1, 5, 4], 5)
  assert indices == [
    [0, 0, 0, 0, 0],
    [5, 5, 5, 5, 5],
    [1, 1, 1, 1, 4],
    [6, 6, 6, 6, -1],
    [2, 2, 2, 3, 3],
  ]
  assert ids[2:] == [[1, 1, 1, 1, 2], [1, 1, 1, 1, 0], [1, 1, 1, 2, 2]]


def test_in_sequential_order(ops, run):
  _, indices = _single(
    ops, run, [5, 4, 3, 2, 1, 5, 4], 5, require_sequential_order=True
  )
  rows = [sorted(set(row) - {-1}) for row in indices]
  assert rows == [[0], [1], [2, 3], [4], [5], [6]]


def test_a_length_out_of_bounds_raises(ops, run_traced):
  _single(ops, run_traced, [10], 10)
  for lengths in ([10], [-1]):
    with pytest.raises(tf.errors.InvalidArgumentError, match='too long'):
      _single(ops, run_traced, lengths, 5)


@pytest.mark.parametrize('lengths', [[], [0], [0, 0, 2], [2, 0, 2]])
def test_empty_input_and_empty_sequences(ops, run_in_graph, lengths):
  for in_order in (False, True):
    ids, indices = _single(
      ops, run_in_graph, lengths, 2, require_sequential_order=in_order
    )
    used = [i for row in indices for i in row if i >= 0]
    assert sorted(used) == sorted(
      i for i, n in enumerate(lengths) for _ in range(n)
    )
    assert len(ids) == max(1, lengths.count(2)) if lengths else not ids


def test_random_packings_are_those_of_lingvos_own_ops(
  stand_in_ops, native_ops, run_in_graph
):
  rng = random.Random(0)
  for _ in range(12):
    n = rng.randrange(1, 30)
    src, tgt = ([rng.randrange(0, 11) for _ in range(n)] for _ in range(2))
    for batch in (0, n):
      expected, packed = (
        _pack(ops, run_in_graph, src, tgt, batch, 10, 9)
        for ops in (native_ops, stand_in_ops)
      )
      assert packed == expected
    for in_order in (False, True):
      expected, packed = (
        _single(ops, run_in_graph, src, 10, require_sequential_order=in_order)
        for ops in (native_ops, stand_in_ops)
      )
      assert packed == expected
