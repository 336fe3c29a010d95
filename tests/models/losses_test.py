# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils

from lingvo_gpipe.models import losses


def _run(params, logits, do_eval=False, **targets):
  with layer_testing.graph_session(do_eval) as session:
    layer = params.Set(name='loss').Instantiate()
    targets = {
      name: tf.constant(value, tf.int32 if 'label' in name else tf.float32)
      for name, value in targets.items()
    }
    metrics = layer.FPropDefaultTheta(
      tf.constant(logits), py_utils.NestedMap(targets)
    )
    return layer_testing.run(session, metrics)


def _of_images(logits, label, weight, do_eval=False, **params):
  p = losses.ClassificationLoss.Params().Set(
    num_classes=np.shape(logits)[1], **params
  )
  return _run(p, np.float32(logits), do_eval, label=label, weight=weight)


def _of_tokens(logits, labels, weights, num_bytes):
  p = losses.LanguageModelLoss.Params()
  return _run(p, logits, labels=labels, weights=weights, bytes=num_bytes)


def _example(num_classes=12, batch=7):
  random = np.random.RandomState(2)
  logits = random.randn(batch, num_classes)
  return logits, random.randint(num_classes, size=batch), random.rand(batch)


def _log_softmax(logits):
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_images_loss_is_the_weighted_mean_smoothed_in_training_only():
  logits, label, weight = _example()
  for share in (0.0, 0.1):
    target = np.eye(12)[label] * (1.0 - share) + share / 12
    each = -(target * _log_softmax(logits)).sum(-1)
    metrics = _of_images(logits, label, weight, label_smoothing=share)
    want = np.average(each, weights=weight), weight.sum()
    np.testing.assert_allclose(metrics['loss'], want, 1e-5)
  evaluated = _of_images(logits, label, weight, True, label_smoothing=0.1)
  plain = _of_images(logits, label, weight)
  np.testing.assert_allclose(evaluated['loss'], plain['loss'], 1e-6)


def test_accuracies_count_examples_by_weight():
  logits, label, weight = _example()
  rank = (logits > logits[np.arange(len(label)), label][:, None]).sum(-1)
  metrics = _of_images(logits, label, weight)
  for name, k in (('accuracy', 1), ('accuracy_top_5', 5)):
    want = np.average(rank < k, weights=weight)
    np.testing.assert_allclose(metrics[name], (want, weight.sum()), 1e-6)
  # It says little of ten classes.
  assert set(_of_images(*_example(num_classes=10))) == {'loss', 'accuracy'}


def test_what_has_no_weight_does_not_count_even_if_nan():
  logits, label, weight = _example()
  without = _of_images(logits[:5], label[:5], weight[:5])
  logits[5:], weight[5:] = np.nan, 0.0
  metrics = _of_images(logits, label, weight)
  for name in without:
    np.testing.assert_allclose(metrics[name], without[name], 1e-6)
  logits = np.zeros([1, 2, 4], np.float32)
  logits[0, 1] = np.nan
  metrics = _of_tokens(logits, [[1, 1]], [[1, 0]], [[1, np.nan]])
  np.testing.assert_allclose(metrics['loss'], (np.log(4.0), 1.0), 1e-6)
  np.testing.assert_allclose(metrics['bits_per_byte'], (2.0, 1.0), 1e-6)


def test_nothing_that_counts_gives_zeros():
  logits, label, weight = _example()
  ones = np.ones([1, 2, 4], np.float32)
  for metrics in (
    _of_images(logits, label, weight * 0.0),
    _of_tokens(ones, [[1, 1]], [[0, 0]], [[0, 0]]),
  ):
    assert all(pair == (0.0, 0.0) for pair in metrics.values())


def test_refuses_an_impossible_share():
  with layer_testing.refused(r'label_smoothing.*got 1\.0'):
    _of_images(*_example(), label_smoothing=1.0)


def test_metrics_of_tokens_are_those_reckoned_by_hand():
  # The probabilities of the labels are 1/2, 1/4 and 1/4; the last place does
  # not count.
  half, quarter = np.log([2.0, 1.0, 1.0]), np.log([1.0, 1.0, 2.0])
  logits = np.float32([[half, quarter], [half, half]])
  metrics = _of_tokens(
    logits, [[0, 1], [2, 1]], [[1, 1], [1, 0]], [[3, 1], [1, 7]]
  )
  assert metrics.keys() == {'loss', 'accuracy', 'bits_per_byte'}
  np.testing.assert_allclose(metrics['loss'], (np.log(2.0) * 5 / 3, 3.0), 1e-6)
  np.testing.assert_allclose(metrics['accuracy'], (1 / 3, 3.0), 1e-6)
  # 1 + 2 + 2 bits for 3 + 1 + 1 bytes.
  np.testing.assert_allclose(metrics['bits_per_byte'], (1.0, 5.0), 1e-6)


def test_half_precision_logits_are_summed_in_float32():
  logits = np.zeros([64, 64, 16], tf.bfloat16.as_numpy_dtype)
  ones = np.ones([64, 64])
  metrics = _of_tokens(logits, 0 * ones, ones, ones)
  np.testing.assert_allclose(metrics['loss'], (np.log(16.0), 4096.0), 1e-5)
