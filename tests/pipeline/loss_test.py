# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of micro-batches become those of the mini-batch."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline

from lingvo_gpipe.pipeline import loss


@pytest.fixture
def loss_layer():
  return tiny_pipeline.MeanSquare.Params().Set(name='loss').Instantiate()


def _combine(layer, *rows):
  """Metrics of micro-batches, combined: numpy values."""
  _, values, traced = zip(
    *(loss.in_cell(layer, row) for row in rows), strict=True
  )
  metrics = loss.combine(traced[0], values, [[]] * len(rows), {})
  with tf.Session() as sess:
    return sess.run(dict(metrics))


def test_any_float_or_int_becomes_float32(loss_layer):
  row = {
    'loss': (tf.constant(2.0, tf.bfloat16), 3),
    'n': (tf.constant(7, tf.int64), np.float64(1)),
  }
  metrics = _combine(loss_layer, row, row)
  assert metrics == {'loss': (2.0, 6.0), 'n': (7.0, 2.0)}
  assert all(x.dtype == np.float32 for pair in metrics.values() for x in pair)


def test_without_any_weight_all_is_zero(loss_layer):
  metrics = _combine(loss_layer, {'loss': (np.float32('nan'), 0.0)})
  assert metrics == {'loss': (0.0, 0.0)}


def _constant_weight(layer, weights, sizes):
  traced = [loss.in_cell(layer, {'loss': (2.0, w)})[2] for w in weights]
  return loss.constant_weight(traced, sizes)


def test_a_weight_that_is_a_number_is_told(loss_layer):
  assert _constant_weight(loss_layer, [1.0], (4, 4)) == 1.0
  assert _constant_weight(loss_layer, [tf.ones([])], (None, None)) == 1.0
  # Of other sizes too, of which one divides it.
  assert _constant_weight(loss_layer, [4.0, 4.0], (5, 4)) == 4.0


def test_a_weight_that_follows_the_micro_batch_is_none(loss_layer):
  # The examples of each, tokens of as many, what only running tells.
  assert _constant_weight(loss_layer, [5.0, 4.0], (5, 4)) is None
  assert _constant_weight(loss_layer, [4.0 * 16], (4, 4)) is None
  of_batch = tf.reduce_sum(tf.placeholder(tf.float32, [4]))
  assert _constant_weight(loss_layer, [of_batch], (4, 4)) is None
  # One micro-batch has nothing to be weighed against.
  assert _constant_weight(loss_layer, [1.0], (4,)) is None
