# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model of the memory measurement: wide between cells, narrow inside."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils


class Bottleneck(base_layer.BaseLayer):
  """relu(x W1) W2, plus x where the widths agree."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'The width of x.')
    p.Define('hidden_dim', 0, 'The width inside.')
    p.Define('output_dim', 0, 'The width of what it returns.')
    p.params_init = py_utils.WeightInit.Gaussian(0.02)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    for name, shape in (
      ('w1', [p.input_dim, p.hidden_dim]),
      ('w2', [p.hidden_dim, p.output_dim]),
    ):
      self.CreateVariable(name, py_utils.WeightParams(shape, p.params_init))

  def FProp(self, theta, x):
    y = tf.matmul(tf.nn.relu(tf.matmul(x, theta.w1)), theta.w2)
    same = self.params.input_dim == self.params.output_dim
    return x + y if same else y


class SquaredError(base_layer.BaseLayer):
  """The squared error of the outputs' mean over their width."""

  def FProp(self, theta, outputs, targets):
    """Lingvo metrics, of outputs [batch, dim] and targets [batch]."""
    del theta
    error = tf.reduce_mean(outputs, axis=-1) - targets
    weight = tf.cast(tf.shape(targets)[0], tf.float32)
    return {'loss': (tf.reduce_mean(tf.square(error)), weight)}
