# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation of images in one TensorFlow operation."""

import lingvo.compat as tf
from lingvo.core import bn_layers, py_utils


class FusedBatchNormLayer(bn_layers.BatchNormLayer):
  """Lingvo's batch norm for [batch, height, width, dim] without paddings.

  Variables and results are those of `BatchNormLayer`, up to rounding, but by
  one operation forward and one backward in place of some forty, and only the
  input is kept for the backward pass. Statistics are float32 whatever the
  activations' dtype. On TPU, with statistics over replicas, it is
  `BatchNormLayer` itself.
  """

  def FProp(self, theta, inputs, paddings=None):
    """Normalises [batch, height, width, dim]; no `paddings` off TPU."""
    p = self.params
    if py_utils.use_tpu() or p.use_moving_avg_in_training:
      return super().FProp(theta, inputs, paddings)
    if paddings is not None:
      raise ValueError(
        f'{p.name}: FusedBatchNormLayer takes no paddings; use '
        'bn_layers.BatchNormLayer for padded inputs.'
      )
    inputs = self._CastToFPropDtype(inputs)
    if py_utils.testonly_skip_norm_layers():
      return inputs
    beta, gamma = (
      tf.cast(x, tf.float32) for x in self._GetBetaGamma(theta, inputs)
    )
    with tf.name_scope(p.name):
      if self.do_eval or p.freeze_bn_stats:
        return tf.tf1.nn.fused_batch_norm(
          inputs,
          gamma,
          beta,
          mean=tf.cast(theta.moving_mean, tf.float32),
          variance=tf.cast(theta.moving_variance, tf.float32),
          epsilon=self.epsilon,
          is_training=False,
        )[0]
      outputs, mean, variance = tf.tf1.nn.fused_batch_norm(
        inputs, gamma, beta, epsilon=self.epsilon, is_training=True
      )
      # The operation returns the unbiased variance, Lingvo averages the
      # biased one.
      count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
      variance *= (count - 1.0) / tf.maximum(count, 1.0)
      py_utils.UpdateBatchNormVars(self.vars.moving_mean, mean, self._decay)
      py_utils.UpdateBatchNormVars(
        self.vars.moving_variance, variance, self._decay
      )
      # Lingvo makes only those updates that the loss depends on, but does not
      # see that the scaled variance comes from the same operation.
      with tf.control_dependencies([variance]):
        return tf.identity(outputs)
