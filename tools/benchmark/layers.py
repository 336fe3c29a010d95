# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Feed-forward layers that every engine can take, and their loss."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

_DEVIATION = 0.02


class FeedForward(base_layer.BaseLayer):
  """W2 relu(W1 x), plus x where the widths agree, for x [batch, input_dim]."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'The width of x.')
    p.Define('hidden_dim', 0, 'The width inside.')
    p.Define('output_dim', 0, 'The width of what it returns.')
    p.Define('has_bias', False, 'Whether b1 and b2 are added to the products.')
    p.params_init = py_utils.WeightInit.Gaussian(_DEVIATION)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    shapes = {
      'w1': [p.input_dim, p.hidden_dim],
      'b1': [p.hidden_dim],
      'w2': [p.hidden_dim, p.output_dim],
      'b2': [p.output_dim],
    }
    for name, shape in shapes.items():
      if p.has_bias or len(shape) > 1:
        self.CreateVariable(name, py_utils.WeightParams(shape, p.params_init))

  def FProp(self, theta, x):
    p = self.params
    y = tf.matmul(x, theta.w1)
    y = tf.nn.relu(y + theta.b1 if p.has_bias else y)
    y = tf.matmul(y, theta.w2)
    y = x + y if p.input_dim == p.output_dim else y
    return y + theta.b2 if p.has_bias else y


class MeanSquare(base_layer.BaseLayer):
  """A loss: the mean square of the outputs, or of their means' errors."""

  def FProp(self, theta, outputs, targets):
    """Lingvo metrics.

    Args:
      theta: Unused.
      outputs: [batch, dim].
      targets: None, or a NestedMap with `mean`, [batch]: what each output's
        mean should be.
    """
    del theta
    error = outputs
    if targets is not None:
      error = tf.reduce_mean(outputs, axis=-1) - targets.mean
    weight = tf.cast(tf.shape(outputs)[0], tf.float32)
    return {'loss': (tf.reduce_mean(tf.square(error)), weight)}
