# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Softmax cross entropy as the loss layer of a pipeline."""

import lingvo.compat as tf
from lingvo.core import base_layer

_TOP_K = 5


class ClassificationLoss(base_layer.BaseLayer):
  """Loss and accuracy of logits, as Lingvo metrics.

  A metric is a pair (weighted mean, sum of weights), so that the means of
  micro-batches combine to the mean of the mini-batch whatever their sizes.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('num_classes', 0, 'Number of classes.')
    p.Define(
      'label_smoothing',
      0.0,
      'Share of the target probability that is spread evenly over all classes '
      'in training, in [0, 1). Evaluation does not smooth.',
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if p.num_classes < 2:
      raise ValueError(
        f'{p.name}: num_classes must be at least 2, got {p.num_classes}.'
      )
    if not 0.0 <= p.label_smoothing < 1.0:
      raise ValueError(
        f'{p.name}: label_smoothing must lie in [0, 1), '
        f'got {p.label_smoothing}.'
      )

  def FProp(self, theta, logits, targets):
    """Computes the metrics.

    Args:
      theta: Unused, the layer has no weights.
      logits: A float tensor [batch, num_classes].
      targets: A NestedMap with `label`, an int tensor [batch], and `weight`,
        a float tensor [batch]: 1 for an example that counts, 0 for one that
        does not.

    Returns:
      A dict {name: (value, weight)} of float32 scalars:
        loss: cross entropy in nats, smoothed while training.
        accuracy: share of examples whose largest logit is the label's.
        accuracy_top_5: with more than ten classes, share of examples whose
          label is among the five largest logits.
    """
    del theta
    p = self.params
    with tf.name_scope(p.name):
      logits = tf.cast(logits, tf.float32)
      label = tf.cast(targets.label, tf.int32)
      weight = tf.cast(targets.weight, tf.float32)
      total = tf.reduce_sum(weight)
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
        values['accuracy_top_5'] = tf.math.in_top_k(label, logits, k=_TOP_K)
      return {
        name: (_weighted_mean(value, weight, total), total)
        for name, value in values.items()
      }


def _weighted_mean(values, weight, total):
  """The mean of `values`; 0 if no example counts."""
  # A product with a weight of 0 would keep an inf or NaN.
  values = tf.where(
    weight > 0.0, tf.cast(values, tf.float32) * weight, tf.zeros_like(weight)
  )
  return tf.math.divide_no_nan(tf.reduce_sum(values), total)
