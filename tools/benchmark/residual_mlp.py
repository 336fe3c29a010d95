# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A residual MLP for the benchmark, in layers that every engine can take."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

_DEVIATION = 0.02


class ResidualLayer(base_layer.BaseLayer):
  """x + W2 relu(W1 x + b1) + b2, for x of shape [batch, dim]."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dim', 0, 'The width of x; the hidden width is 4 times that.')
    p.params_init = py_utils.WeightInit.Gaussian(_DEVIATION)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    for name, shape in (
      ('w1', [p.dim, 4 * p.dim]),
      ('b1', [4 * p.dim]),
      ('w2', [4 * p.dim, p.dim]),
      ('b2', [p.dim]),
    ):
      self.CreateVariable(name, py_utils.WeightParams(shape, p.params_init))

  def FProp(self, theta, x):
    hidden = tf.nn.relu(tf.matmul(x, theta.w1) + theta.b1)
    return x + tf.matmul(hidden, theta.w2) + theta.b2


class MeanSquare(base_layer.BaseLayer):
  """A loss: the mean square of the outputs."""

  def FProp(self, theta, outputs, targets):
    """Lingvo metrics, of outputs [batch, dim]; there are no targets."""
    del theta, targets
    weight = tf.cast(tf.shape(outputs)[0], tf.float32)
    return {'loss': (tf.reduce_mean(tf.square(outputs)), weight)}
