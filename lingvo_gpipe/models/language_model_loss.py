# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cross entropy of language models as the loss layer of a pipeline."""

import math

import lingvo.compat as tf
from lingvo.core import base_layer


class LanguageModelLoss(base_layer.BaseLayer):
  """Loss, accuracy and bits a byte of logits, as Lingvo metrics.

  In the last cell, where the logits of one micro-batch at a time are. A metric
  is a pair (weighted mean, sum of weights), so that micro-batches combine to
  the mini-batch whatever number of tokens they have.
  """

  def FProp(self, theta, logits, targets):
    """Computes the metrics.

    Args:
      theta: Unused, the layer has no weights.
      logits: A float tensor [batch, time, vocab_size].
      targets: A NestedMap of tensors [batch, time]: `labels`, int, the token
        that follows; `weights`, float, 0 for places that do not count;
        `bytes`, float, how many bytes of text the label stands for.

    Returns:
      A dict {name: (value, weight)} of float32 scalars:
        loss: cross entropy in nats a token, weighted.
        accuracy: share of tokens whose label has the largest logit.
        bits_per_byte: the tokens' cross entropies in bits, added up, by the
          number of bytes they stand for, which is the weight.
    """
    del theta
    with tf.name_scope(self.params.name):
      logits = tf.cast(logits, tf.float32)
      labels = tf.cast(targets.labels, tf.int32)
      weights = tf.cast(targets.weights, tf.float32)
      counts = weights > 0.0
      nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
      )
      nats = _weighted_sum(nats, weights, counts)
      best = tf.argmax(logits, axis=-1, output_type=tf.int32)
      right = tf.cast(tf.equal(best, labels), tf.float32)
      right = _weighted_sum(right, weights, counts)
      tokens = tf.reduce_sum(weights)
      num_bytes = tf.reduce_sum(
        tf.where(
          counts, tf.cast(targets.bytes, tf.float32), tf.zeros_like(weights)
        )
      )
      bits = nats / math.log(2.0)
      return {
        'loss': (tf.math.divide_no_nan(nats, tokens), tokens),
        'accuracy': (tf.math.divide_no_nan(right, tokens), tokens),
        'bits_per_byte': (tf.math.divide_no_nan(bits, num_bytes), num_bytes),
      }


def _weighted_sum(values, weights, counts):
  # A product with a weight of 0 would keep an inf or NaN.
  return tf.reduce_sum(
    tf.where(counts, values * weights, tf.zeros_like(weights))
  )
