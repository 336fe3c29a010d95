# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the classification loss."""

import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils

from lingvo_gpipe.models import classification_loss


def _metrics(logits, label, weight, do_eval=False, **params):
  with layer_testing.graph_session(do_eval) as session:
    layer = (
      classification_loss.ClassificationLoss.Params()
      .Set(name='loss', num_classes=np.shape(logits)[1], **params)
      .Instantiate()
    )
    metrics = layer.FPropDefaultTheta(
      tf.constant(logits, tf.float32),
      py_utils.NestedMap(
        label=tf.constant(label), weight=tf.constant(weight, tf.float32)
      ),
    )
    return layer_testing.run(session, metrics)


def _example(num_classes=12, batch=7):
  random = np.random.RandomState(2)
  logits = random.randn(batch, num_classes)
  return logits, random.randint(num_classes, size=batch), random.rand(batch)


def _log_softmax(logits):
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_loss_is_the_weighted_mean_cross_entropy():
  logits, label, weight = _example()
  metrics = _metrics(logits, label, weight)
  each = -_log_softmax(logits)[np.arange(len(label)), label]
  np.testing.assert_allclose(
    metrics['loss'], (np.average(each, weights=weight), weight.sum()), 1e-5
  )


def test_label_smoothing_is_for_training_only():
  logits, label, weight = _example()
  target = np.eye(12)[label] * 0.9 + 0.1 / 12
  smoothed = -(target * _log_softmax(logits)).sum(-1)
  trained = _metrics(logits, label, weight, label_smoothing=0.1)
  np.testing.assert_allclose(
    trained['loss'][0], np.average(smoothed, weights=weight), 1e-5
  )
  evaluated = _metrics(logits, label, weight, True, label_smoothing=0.1)
  plain = _metrics(logits, label, weight)
  np.testing.assert_allclose(evaluated['loss'], plain['loss'], 1e-6)


def test_accuracies_count_examples_by_weight():
  logits, label, weight = _example()
  rank = (logits > logits[np.arange(len(label)), label][:, None]).sum(-1)
  metrics = _metrics(logits, label, weight)
  for name, k in (('accuracy', 1), ('accuracy_top_5', 5)):
    want = np.average(rank < k, weights=weight)
    np.testing.assert_allclose(metrics[name], (want, weight.sum()), 1e-6)


def test_top_5_is_left_out_where_it_says_little():
  assert set(_metrics(*_example(num_classes=10))) == {'loss', 'accuracy'}


def test_means_of_uneven_parts_combine_to_the_whole():
  logits, label, weight = _example()
  whole = _metrics(logits, label, weight)
  parts = [
    _metrics(logits[part], label[part], weight[part])
    for part in (slice(0, 5), slice(5, 7))
  ]
  for name, (value, total) in whole.items():
    values, weights = zip(*[part[name] for part in parts], strict=True)
    np.testing.assert_allclose(
      (np.average(values, weights=weights), sum(weights)), (value, total), 1e-5
    )


def test_examples_of_weight_zero_do_not_count_even_if_nan():
  logits, label, weight = _example()
  without = _metrics(logits[:5], label[:5], weight[:5])
  logits[5:] = np.nan
  weight[5:] = 0.0
  metrics = _metrics(logits, label, weight)
  for name in without:
    np.testing.assert_allclose(metrics[name], without[name], 1e-6)


def test_no_example_at_all_gives_zeros():
  logits, label, weight = _example()
  metrics = _metrics(logits, label, weight * 0.0)
  assert all(pair == (0.0, 0.0) for pair in metrics.values())


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'num_classes': 1}, 'num_classes.*got 1'),
    ({'num_classes': 3, 'label_smoothing': 1.0}, 'label_smoothing.*got 1.0'),
  ],
)
def test_refuses_impossible_params(params, message):
  with (
    layer_testing.graph_session(),
    pytest.raises(ValueError, match=message),
  ):
    classification_loss.ClassificationLoss.Params().Set(
      name='loss', **params
    ).Instantiate()
