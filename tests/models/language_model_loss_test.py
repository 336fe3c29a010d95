# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the language model's loss."""

import layer_testing
import numpy as np
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils

from lingvo_gpipe.models import language_model_loss


def _metrics(logits, labels, weights, num_bytes):
  with layer_testing.graph_session() as session:
    p = language_model_loss.LanguageModelLoss.Params().Set(name='loss')
    layer = p.Instantiate()
    targets = py_utils.NestedMap(
      labels=tf.constant(labels, tf.int32),
      weights=tf.constant(weights, tf.float32),
      bytes=tf.constant(num_bytes, tf.float32),
    )
    metrics = layer.FPropDefaultTheta(tf.constant(logits), targets)
    return layer_testing.run(session, metrics)


def test_metrics_are_those_reckoned_by_hand():
  # The probabilities of the labels are 1/2, 1/4 and 1/4; the last place does
  # not count.
  half, quarter = np.log([2.0, 1.0, 1.0]), np.log([1.0, 1.0, 2.0])
  logits = np.float32([[half, quarter], [half, half]])
  metrics = _metrics(
    logits, [[0, 1], [2, 1]], [[1, 1], [1, 0]], [[3, 1], [1, 7]]
  )
  assert metrics.keys() == {'loss', 'accuracy', 'bits_per_byte'}
  np.testing.assert_allclose(metrics['loss'], (np.log(2.0) * 5 / 3, 3.0), 1e-6)
  np.testing.assert_allclose(metrics['accuracy'], (1 / 3, 3.0), 1e-6)
  # 1 + 2 + 2 bits for 3 + 1 + 1 bytes.
  np.testing.assert_allclose(metrics['bits_per_byte'], (1.0, 5.0), 1e-6)


def test_guessing_a_byte_takes_eight_bits():
  metrics = _metrics(
    np.zeros([2, 3, 256], np.float32),
    np.arange(6).reshape(2, 3),
    np.ones([2, 3]),
    np.ones([2, 3]),
  )
  np.testing.assert_allclose(metrics['bits_per_byte'], (8.0, 6.0), 1e-6)


def test_places_without_weight_may_hold_anything():
  logits = np.zeros([1, 2, 4], np.float32)
  logits[0, 1] = np.nan
  metrics = _metrics(logits, [[1, 1]], [[1, 0]], [[1, np.nan]])
  np.testing.assert_allclose(metrics['loss'], (np.log(4.0), 1.0), 1e-6)
  np.testing.assert_allclose(metrics['bits_per_byte'], (2.0, 1.0), 1e-6)


def test_nothing_that_counts_gives_zeros():
  metrics = _metrics(
    np.ones([1, 2, 4], np.float32), [[1, 1]], [[0, 0]], [[0, 0]]
  )
  for value, weight in metrics.values():
    assert value == weight == 0.0


def test_half_precision_logits_are_summed_in_float32():
  logits = np.zeros([64, 64, 16], np.float32)
  with layer_testing.graph_session() as session:
    p = language_model_loss.LanguageModelLoss.Params().Set(name='loss')
    ones = tf.ones([64, 64])
    targets = py_utils.NestedMap(
      labels=tf.zeros([64, 64], tf.int32), weights=ones, bytes=ones
    )
    metrics = p.Instantiate().FPropDefaultTheta(
      tf.cast(logits, tf.bfloat16), targets
    )
    metrics = layer_testing.run(session, metrics)
  np.testing.assert_allclose(metrics['loss'], (np.log(16.0), 4096.0), 1e-5)
