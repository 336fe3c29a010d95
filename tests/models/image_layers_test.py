# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of convolution blocks and pooling."""

import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.models import image_layers


def _image(*shape):
  return np.random.RandomState(3).randn(*shape).astype(np.float32)


def _shape_and_count(params, inputs):
  """The output's shape and the number of trained scalars."""
  with layer_testing.graph_session():
    layer = params.Set(name='layer').Instantiate()
    outputs = layer.FPropDefaultTheta(tf.constant(inputs))
    count = sum(
      np.prod(v.shape.as_list()) for v in layer.vars.Flatten() if v.trainable
    )
    return outputs.shape.as_list(), count


@pytest.mark.parametrize(
  ('stride', 'separable', 'dilation', 'shape', 'weights'),
  [
    ((1, 1), False, 1, [2, 5, 7, 6], 9 * 4 * 6),
    ((2, 2), False, 1, [2, 3, 4, 6], 9 * 4 * 6),
    ((1, 2), False, 1, [2, 5, 4, 6], 9 * 4 * 6),
    ((1, 1), True, 2, [2, 5, 7, 6], 9 * 4 + 4 * 6),
    ((2, 2), True, 1, [2, 3, 4, 6], 9 * 4 + 4 * 6),
  ],
)
def test_convolution_shapes_and_weights(
  stride, separable, dilation, shape, weights
):
  params = image_layers.ReluConvBatchNorm.Params().Set(
    input_dim=4,
    output_dim=6,
    window=(3, 3),
    stride=stride,
    separable=separable,
    dilation=dilation,
  )
  got = _shape_and_count(params, _image(2, 5, 7, 4))
  assert got == (shape, weights + 2 * 6)


def test_depthwise_taps_lie_a_dilation_apart():
  with layer_testing.graph_session() as session:
    layer = layer_testing.make(
      image_layers.DepthwiseConv2DLayerNoPadding,
      dim=1,
      window=(3, 3),
      dilation=2,
    )
    image = np.zeros([1, 7, 7, 1], np.float32)
    image[0, 3, 3, 0] = 1.0
    outputs = layer.FPropDefaultTheta(tf.constant(image))
    weights, values = layer_testing.run(session, [layer.vars.w, outputs])
  want = np.zeros([7, 7], np.float32)
  want[1::2, 1::2] = weights[::-1, ::-1, 0, 0]
  np.testing.assert_allclose(values[0, :, :, 0], want, 1e-6)


def test_dilation_with_a_stride_is_refused():
  with layer_testing.refused('dilation=2 and stride=2'):
    layer_testing.make(
      image_layers.DepthwiseConv2DLayerNoPadding, dim=1, dilation=2, stride=2
    )


@pytest.mark.parametrize('size', [4, 5])
def test_factorized_reduction_reads_pixels_one_apart(size):
  with layer_testing.graph_session(do_eval=True) as session:
    layer = layer_testing.make(
      image_layers.FactorizedReduction, input_dim=2, output_dim=3
    )
    image = _image(1, size, size, 2)
    outputs = layer.FPropDefaultTheta(tf.constant(image))
    even, odd, values = layer_testing.run(
      session, [layer.even.vars.w, layer.odd.vars.w, outputs]
    )
  image = np.maximum(image, 0.0)
  shifted = np.pad(image, [(0, 0), (0, 1), (0, 1), (0, 0)])[:, 1:, 1:]
  want = np.concatenate(
    [image[:, ::2, ::2] @ even[0, 0], shifted[:, ::2, ::2] @ odd[0, 0]], -1
  )
  np.testing.assert_allclose(values, want / np.sqrt(1.001), 1e-4, 1e-5)


def test_average_does_not_count_the_padding():
  with layer_testing.graph_session() as session:
    layer = layer_testing.make(image_layers.PoolLayer, pooling='avg')
    outputs = layer.FPropDefaultTheta(tf.ones([1, 3, 3, 1]))
    assert (layer_testing.run(session, outputs) == 1.0).all()


def test_unknown_pooling_is_refused():
  with layer_testing.refused("'max' or 'avg', got 'sum'"):
    layer_testing.make(image_layers.PoolLayer, pooling='sum')
