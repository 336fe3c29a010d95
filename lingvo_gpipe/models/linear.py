# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A matrix product over the last dimension."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils


class LinearLayer(base_layer.BaseLayer):
  """x w + b over the last dimension, as one product of two matrices.

  Weights start Gaussian with deviation scale / sqrt(input_dim), so that outputs
  are as large as inputs at scale 1; biases start at 0.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'Last dimension of the input.')
    p.Define('output_dim', 0, 'Last dimension of the output.')
    p.Define('scale', 1.0, 'Scale of the initial outputs; see the class.')
    return p

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    p = self.params
    init = py_utils.WeightInit.Gaussian(p.scale * p.input_dim**-0.5)
    self.CreateVariable(
      'w',
      py_utils.WeightParams([p.input_dim, p.output_dim], init, p.dtype),
    )
    self.CreateVariable(
      'b',
      py_utils.WeightParams(
        [p.output_dim],
        py_utils.WeightInit.Constant(0.0),
        p.dtype,
        collections=[py_utils.SKIP_LP_REGULARIZATION],
      ),
    )

  def FProp(self, theta, inputs):
    """Maps [..., input_dim] to [..., output_dim]."""
    p = self.params
    with tf.name_scope(p.name):
      shape = py_utils.GetShape(inputs)
      # A product with the batch kept would be one small product an example,
      # and the weight's gradient a sum over all of them.
      rows = tf.reshape(inputs, [-1, p.input_dim])
      outputs = tf.nn.bias_add(tf.matmul(rows, theta.w), theta.b)
      return tf.reshape(outputs, [*shape[:-1], p.output_dim])
