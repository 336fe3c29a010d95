# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Convolution blocks and pooling of image models.

Images are [batch, height, width, channels]. Every window is padded to keep
the size at stride 1, and an image of height h becomes ceil(h / s) high at
stride s.
"""

import lingvo.compat as tf
from lingvo.core import base_layer, layers, py_utils

from lingvo_gpipe.models import batch_norm


class DepthwiseConv2DLayerNoPadding(base_layer.BaseLayer):
  """Convolves each channel with a filter of its own, without bias."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dim', 0, 'Channels of the input and the output.')
    p.Define('window', (3, 3), 'Height and width of the filter.')
    p.Define('stride', 1, 'Step of the filter in both directions.')
    p.Define(
      'dilation', 1, 'Distance of filter taps; above 1 only at stride 1.'
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if p.dilation > 1 and p.stride > 1:
      raise ValueError(
        f'{p.name}: a dilated convolution needs stride 1, got '
        f'dilation={p.dilation} and stride={p.stride}.'
      )

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    p = self.params
    self.CreateVariable(
      'w',
      py_utils.WeightParams(
        shape=[*p.window, p.dim, 1],
        init=p.params_init,
        dtype=p.dtype,
        collections=[self.__class__.__name__ + '_vars'],
      ),
    )

  def FProp(self, theta, inputs):
    """Maps [batch, h, w, dim] to [batch, ceil(h / s), ceil(w / s), dim]."""
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
    p.Define(
      'batch_norm', batch_norm.FusedBatchNormLayer.Params(), 'Batch norm.'
    )
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
      self.CreateChild(
        'depthwise',
        DepthwiseConv2DLayerNoPadding.Params().Set(
          params_init=py_utils.WeightInit.TruncatedGaussian(
            (p.window[0] * p.window[1]) ** -0.5
          ),
          dim=p.input_dim,
          window=tuple(p.window),
          stride=p.stride[0],
          dilation=p.dilation,
        ),
      )
      conv.filter_shape = (1, 1, p.input_dim, p.output_dim)
      conv.filter_stride = (1, 1)
    self.CreateChild('conv', conv)
    self.CreateChild('bn', p.batch_norm.Copy().Set(dim=p.output_dim))

  def FProp(self, theta, inputs):
    """Maps [batch, h, w, input_dim] to [batch, h', w', output_dim]."""
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
    p.Define(
      'batch_norm', batch_norm.FusedBatchNormLayer.Params(), 'Batch norm.'
    )
    p.params_init = py_utils.WeightInit.TruncatedGaussianSqrtFanIn(2.0**0.5)
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    even_dim = p.output_dim // 2
    for name, dim in (('even', even_dim), ('odd', p.output_dim - even_dim)):
      self.CreateChild(
        name,
        layers.Conv2DLayerNoPadding.Params().Set(
          params_init=p.params_init,
          filter_shape=(1, 1, p.input_dim, dim),
          filter_stride=(2, 2),
        ),
      )
    self.CreateChild('bn', p.batch_norm.Copy().Set(dim=p.output_dim))

  def FProp(self, theta, inputs):
    """Maps [batch, h, w, input_dim] to [batch, ceil(h/2), ceil(w/2), dim]."""
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

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if p.pooling not in ('max', 'avg'):
      raise ValueError(
        f"{p.name}: pooling must be 'max' or 'avg', got {p.pooling!r}."
      )

  def FProp(self, theta, inputs):
    """Maps [batch, h, w, dim] to [batch, ceil(h / s), ceil(w / s), dim]."""
    p = self.params
    if p.pooling == 'max':
      return tf.nn.max_pool2d(inputs, p.window, p.stride, 'SAME', name=p.name)
    return tf.nn.avg_pool2d(inputs, p.window, p.stride, 'SAME', name=p.name)
