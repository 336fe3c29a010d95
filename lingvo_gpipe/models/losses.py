# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Softmax cross entropies as the loss layer of a pipeline.

A metric is a pair (weighted mean, sum of weights) of float32 scalars, so
micro-batches of any number of examples or tokens combine to the mini-batch.
"""

import math

import lingvo.compat as tf
from lingvo.core import base_layer


class ClassificationLoss(base_layer.BaseLayer):
  """Loss and accuracy of images' logits."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('num_classes', 0, 'Number of classes.')
    p.Define(
      'label_smoothing', 0.0, 'Share of the probability for all classes.'
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if not 0.0 <= p.label_smoothing < 1.0:
      raise ValueError(
        f'{p.name}: label_smoothing must be in [0, 1), got {p.label_smoothing}.'
      )

  def FProp(self, theta, logits, targets):
    """Metrics of logits [batch, num_classes].

    They are `loss`, the cross entropy in nats, `accuracy`, and with more than
    ten classes `accuracy_top_5`. Targets are [batch]: `label`, int; `weight`,
    float, 0 for an example that does not count.
    """
    del theta
    p = self.params
    with tf.name_scope(p.name):
      logits = tf.cast(logits, tf.float32)
      label = tf.cast(targets.label, tf.int32)
      weight = tf.cast(targets.weight, tf.float32)
      probabilities = tf.one_hot(label, p.num_classes)
      if p.label_smoothing and not self.do_eval:
        probabilities *= 1.0 - p.label_smoothing
        probabilities += p.label_smoothing / p.num_classes
      cross_entropy = tf.nn.softmax_cross_entropy_with_logits(
        labels=probabilities, logits=logits
      )
      best = tf.argmax(logits, axis=-1, output_type=tf.int32)
      values = {'loss': cross_entropy, 'accuracy': tf.equal(best, label)}
      if p.num_classes > 10:
        values['accuracy_top_5'] = tf.math.in_top_k(label, logits, k=5)
      return {
        name: _mean(_sum(value, weight), tf.reduce_sum(weight))
        for name, value in values.items()
      }


class LanguageModelLoss(base_layer.BaseLayer):
  """Loss, accuracy and bits a byte of tokens' logits."""

  def FProp(self, theta, logits, targets):
    """Metrics of logits [batch, time, vocab_size].

    They are `loss`, the cross entropy in nats a token, `accuracy`, and
    `bits_per_byte`, whose weight is the number of bytes. Targets are [batch,
    time]: `labels`, int, the tokens that follow; `weights`, float, 0 for places
    that do not count; `bytes`, float, of the text that a label stands for.
    """
    del theta
    with tf.name_scope(self.params.name):
      logits = tf.cast(logits, tf.float32)
      labels = tf.cast(targets.labels, tf.int32)
      weights = tf.cast(targets.weights, tf.float32)
      nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
      )
      nats = _sum(nats, weights)
      best = tf.argmax(logits, axis=-1, output_type=tf.int32)
      right = _sum(tf.equal(best, labels), weights)
      tokens = tf.reduce_sum(weights)
      num_bytes = _sum(targets.bytes, tf.cast(weights > 0.0, tf.float32))
      return {
        'loss': _mean(nats, tokens),
        'accuracy': _mean(right, tokens),
        'bits_per_byte': _mean(nats / math.log(2.0), num_bytes),
      }


def _sum(values, weights):
  """The sum of values, times weights; of those alone that have a weight."""
  # A product with a weight of 0 would keep an inf or NaN.
  values = tf.cast(values, tf.float32) * weights
  return tf.reduce_sum(tf.where(weights > 0.0, values, tf.zeros_like(weights)))


def _mean(total, weight):
  return tf.math.divide_no_nan(total, weight), weight
