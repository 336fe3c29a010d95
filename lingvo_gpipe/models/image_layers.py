# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks, pooling and drop path of image models.

Images are [batch, height, width, channels]. Windows are padded, so that a side
of h pixels has ceil(h / s) at stride s.
"""

import lingvo.compat as tf
from lingvo.core import base_layer, layers, py_utils

from lingvo_gpipe.models.batch_norm import FusedBatchNormLayer


class DepthwiseConv2DLayerNoPadding(base_layer.BaseLayer):
  """Convolves each channel with a filter of its own, without bias."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dim', 0, 'Channels of the input and the output.')
    p.Define('window', (3, 3), 'Height and width of the filter.')
    p.Define('stride', 1, 'Step of the filter in both directions.')
    p.Define('dilation', 1, 'Distance of filter taps; for stride 1.')
    return p

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    p = self.params
    weight = py_utils.WeightParams(
      [*p.window, p.dim, 1], p.params_init, p.dtype
    )
    self.CreateVariable('w', weight)

  def FProp(self, theta, inputs):
    p = self.params
    with tf.name_scope(p.name):
      return tf.nn.depthwise_conv2d(
        inputs,
        theta.w,
        strides=[1, p.stride, p.stride, 1],
        padding='SAME',
        dilations=[p.dilation, p.dilation],
      )


class ReluConvBatchNorm(base_layer.BaseLayer):
  """ReLU, convolution without bias, batch norm; without `relu` no ReLU.

  With `separable` the convolution is a depthwise one followed by a 1x1 one.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'Channels of the input.')
    p.Define('output_dim', 0, 'Channels of the output.')
    p.Define('window', (1, 1), 'Height and width of the filter.')
    p.Define('stride', (1, 1), 'Step of the filter, vertical and horizontal.')
    p.Define('relu', True, 'Begin with a ReLU.')
    p.Define('separable', False, 'Depthwise, then 1x1.')
    p.Define('dilation', 1, 'Distance of filter taps, for separable ones.')
    p.Define('batch_norm', FusedBatchNormLayer.Params(), 'Batch norm.')
    p.params_init = py_utils.WeightInit.TruncatedGaussianSqrtFanIn(2.0**0.5)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    conv = layers.Conv2DLayerNoPadding.Params().Set(
      params_init=p.params_init,
      filter_shape=(*p.window, p.input_dim, p.output_dim),
      filter_stride=tuple(p.stride),
    )
    if p.separable:
      deviation = (p.window[0] * p.window[1]) ** -0.5
      depthwise = DepthwiseConv2DLayerNoPadding.Params().Set(
        params_init=py_utils.WeightInit.TruncatedGaussian(deviation),
        dim=p.input_dim,
        window=tuple(p.window),
        stride=p.stride[0],
        dilation=p.dilation,
      )
      self.CreateChild('depthwise', depthwise)
      conv.filter_shape = (1, 1, p.input_dim, p.output_dim)
      conv.filter_stride = (1, 1)
    self.CreateChild('conv', conv)
    self.CreateChild('bn', p.batch_norm.Copy().Set(dim=p.output_dim))

  def FProp(self, theta, inputs):
    p = self.params
    with tf.name_scope(p.name):
      hidden = tf.nn.relu(inputs) if p.relu else inputs
      if p.separable:
        hidden = self.depthwise.FProp(theta.depthwise, hidden)
      hidden = self.conv.FProp(theta.conv, hidden)
      return self.bn.FProp(theta.bn, hidden)


class FactorizedReduction(base_layer.BaseLayer):
  """Halves height and width by two 1x1 convolutions, one pixel apart.

  x . x .      the first convolution reads the pixels x,
  . o . o      the second the pixels o; their outputs, half of the
  x . x .      channels each, are concatenated and batch normalised
  . o . o      together
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'Channels of the input.')
    p.Define('output_dim', 0, 'Channels of the output.')
    p.Define('batch_norm', FusedBatchNormLayer.Params(), 'Batch norm.')
    p.params_init = py_utils.WeightInit.TruncatedGaussianSqrtFanIn(2.0**0.5)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    conv = layers.Conv2DLayerNoPadding.Params().Set(
      params_init=p.params_init, filter_stride=(2, 2)
    )
    even_dim = p.output_dim // 2
    for name, dim in (('even', even_dim), ('odd', p.output_dim - even_dim)):
      shape = (1, 1, p.input_dim, dim)
      self.CreateChild(name, conv.Copy().Set(filter_shape=shape))
    self.CreateChild('bn', p.batch_norm.Copy().Set(dim=p.output_dim))

  def FProp(self, theta, inputs):
    with tf.name_scope(self.params.name):
      hidden = tf.nn.relu(inputs)
      # `slice`, since the gradient of hidden[:, 1:, 1:] takes far longer.
      shifted = tf.slice(hidden, [0, 1, 1, 0], [-1] * 4)
      shifted = tf.pad(shifted, [[0, 0], [0, 1], [0, 1], [0, 0]])
      halves = [
        self.even.FProp(theta.even, hidden),
        self.odd.FProp(theta.odd, shifted),
      ]
      return self.bn.FProp(theta.bn, tf.concat(halves, -1))


class PoolLayer(base_layer.BaseLayer):
  """Maximum or average over a square window; padding does not count."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('pooling', 'max', "'max' or 'avg'.")
    p.Define('window', 3, 'Height and width of the window.')
    p.Define('stride', 1, 'Step of the window in both directions.')
    return p

  def FProp(self, theta, inputs):
    p = self.params
    pool = {'max': tf.nn.max_pool2d, 'avg': tf.nn.avg_pool2d}[p.pooling]
    return pool(inputs, p.window, p.stride, 'SAME', name=p.name)


class DropPathLayer(base_layer.BaseLayer):
  """Sets whole examples to zero at random while training.

  An example is kept with probability q and then scaled by 1 / q. A recomputed
  forward pass drops the same ones. Method: FractalNet, arXiv:1605.07648.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('keep_prob', 1.0, 'Probability q of keeping an example.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if not 0.0 < p.keep_prob <= 1.0:
      raise ValueError(
        f'{p.name}: keep_prob must lie in (0, 1], got {p.keep_prob}.'
      )

  def FProp(self, theta, inputs):
    p = self.params
    if self.do_eval or p.keep_prob == 1.0:
      return inputs
    keep_prob = tf.constant(p.keep_prob, tf.float32)
    noise = tf.random.stateless_uniform(
      [tf.shape(inputs)[0]] + [1] * (inputs.shape.rank - 1),
      seed=py_utils.GenerateStepSeedPair(p),
    )
    # A product with zero would keep an inf or NaN of a dropped example.
    scaled = inputs * tf.cast(1.0 / keep_prob, inputs.dtype)
    return tf.where_v2(noise < keep_prob, scaled, tf.zeros_like(inputs))
