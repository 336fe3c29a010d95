# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small U-Net for tests: its skip connections nest.

```
  conv -> put a -> down -> put b -> middle -> take b -> up -> take a -> out
              '                '----------------^               ^
              '------------------------------------------------'
```
"""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import named_layers, pipelining_layer

SIZE, CHANNELS = 8, 3
# Bytes of one example where a and b are put aside.
BYTES_A = SIZE * SIZE * CHANNELS * 4
BYTES_B = SIZE * SIZE // 4 * CHANNELS * 4


class Conv(base_layer.BaseLayer):
  """tanh of a convolution; with stride 2, or to twice the size."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('inputs', CHANNELS, 'Channels of the input.')
    p.Define('stride', 1, '')
    p.Define('up', False, 'Whether to double height and width.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    outputs = CHANNELS * (4 if p.up else 1)
    self.CreateVariable(
      'w',
      py_utils.WeightParams(
        [3, 3, p.inputs, outputs], py_utils.WeightInit.Gaussian(0.4)
      ),
    )

  def FProp(self, theta, x):
    p = self.params
    y = tf.tanh(tf.nn.conv2d(x, theta.w, p.stride, 'SAME'))
    return tf.nn.depth_to_space(y, 2) if p.up else y


def put(name, value):
  return named_layers.PutLayer.Params().Set(name=name, puts=[value])


def take(name, *values, combine='concat'):
  return named_layers.TakeLayer.Params().Set(
    name=name, takes=values, combine=combine
  )


def layers():
  conv = Conv.Params()
  return [
    conv.Copy().Set(name='conv'),
    put('put_a', 'a'),
    conv.Copy().Set(name='down', stride=2),
    put('put_b', 'b'),
    conv.Copy().Set(name='middle'),
    take('take_b', 'b'),
    conv.Copy().Set(name='up', inputs=2 * CHANNELS, up=True),
    take('take_a', 'a'),
    conv.Copy().Set(name='out', inputs=2 * CHANNELS),
  ]


def cells(subs, *cuts):
  """Params of cells: `cuts` are the first layers of all but the first."""
  bounds = [0, *cuts, len(subs)]
  return [
    pipelining_layer.FeatureExtractionLayer.Params().Set(
      name=f'd{k}', sub=subs[bounds[k] : bounds[k + 1]]
    )
    for k in range(len(bounds) - 1)
  ]


# a and b cross together; a goes from d0 to d3, b from d1 to d2.
CUTS = {1: (), 2: (4,), 4: (2, 4, 7)}


def pipeline(subs, cuts, **kwargs):
  """Params of a pipeline with the loss in it."""
  kwargs = {'num_micro_batches': 3, **kwargs}
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='net',
    cell_tpl=cells(subs, *cuts),
    loss_tpl=tiny_pipeline.MeanSquare.Params().Set(name='loss'),
    **kwargs,
  )


def images(batch=5):
  shape = [batch, SIZE, SIZE, CHANNELS]
  return np.random.RandomState(3).randn(*shape).astype(np.float32)


def compute_loss(layer):
  x = tf.constant(images())
  return layer.ComputeLoss(layer.theta, x, tf.zeros_like(x))


def step(params, **kwargs):
  """The loss and gradients of one step."""
  return pt.run_step(params, None, **{'compute': compute_loss, **kwargs})
