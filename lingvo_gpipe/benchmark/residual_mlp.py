# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model of the speed benchmark: a residual MLP, for both engines."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

_DEVIATION = 0.02


class ResidualLayer(base_layer.BaseLayer):
  """x + W2 relu(W1 x + b1) + b2, for x of shape [batch, dim]."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dim', 0, 'The width of x; the hidden width is 4 times that.')
    p.Define('number', 0, 'Which layer of the model it is, from 0.')
    return p

  def __init__(self, params):
    super().__init__(params)
    dim = self.params.dim
    for i, (name, shape) in enumerate(
      (
        ('w1', [dim, 4 * dim]),
        ('b1', [4 * dim]),
        ('w2', [4 * dim, dim]),
        ('b2', [dim]),
      )
    ):
      # By default the seed follows the variable's name, which engines choose
      # differently.
      seed = 4 * self.params.number + i + 1
      init = py_utils.WeightInit.Gaussian(_DEVIATION, seed)
      self.CreateVariable(name, py_utils.WeightParams(shape, init))

  def FProp(self, theta, x):
    hidden = tf.nn.relu(tf.matmul(x, theta.w1) + theta.b1)
    return x + tf.matmul(hidden, theta.w2) + theta.b2

  @classmethod
  def FPropMeta(cls, p, x):
    """What Lingvo's engine asks of a layer: its cost, its output's shape."""
    py_utils.CheckShapes((x,))
    flops = 16 * p.dim * p.dim * x[0]
    return py_utils.NestedMap(flops=flops, out_shapes=(x,))


class MeanSquare(base_layer.BaseLayer):
  """A loss: the mean square of the outputs, for any pipeline."""

  def FProp(self, theta, outputs, targets):
    """Lingvo metrics, of outputs [batch, dim] and targets [batch]."""
    del theta
    weight = tf.cast(tf.shape(targets)[0], tf.float32)
    return {'loss': (tf.reduce_mean(tf.square(outputs)), weight)}
