# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small U-Net for tests: its skip connections nest.

```
  conv -> put a -> down -> put b -> middle -> take b -> up -> take a -> out
              '                '----------------^               ^
              '------------------------------------------------'
```
"""

import declared
import example_model
import lingvo.compat as tf
import numpy as np

from lingvo_gpipe import named_layers

SIZE, CHANNELS = 8, 3
# Bytes of one example where a and b are put aside.
BYTES_A = SIZE * SIZE * CHANNELS * 4
BYTES_B = SIZE * SIZE // 4 * CHANNELS * 4


class Conv(declared.Layer):
  """tanh of a convolution; with stride 2, or `up` to twice the size."""

  PARAMS = {'inputs': CHANNELS, 'outputs': CHANNELS, 'stride': 1, 'up': False}
  WEIGHTS = {'w': [3, 3, 'inputs', 'outputs']}
  DEVIATION = 0.4

  def FProp(self, theta, x):
    p = self.params
    y = tf.tanh(tf.nn.conv2d(x, theta.w, p.stride, 'SAME'))
    return tf.nn.depth_to_space(y, 2) if p.up else y


def put(name, value, **kwargs):
  return named_layers.PutLayer.Params().Set(name=name, puts=[value], **kwargs)


def take(name, *values, **kwargs):
  return named_layers.TakeLayer.Params().Set(name=name, takes=values, **kwargs)


def layers():
  conv = Conv.Params()
  return [
    conv.Copy().Set(name='conv'),
    put('put_a', 'a'),
    conv.Copy().Set(name='down', stride=2),
    put('put_b', 'b'),
    conv.Copy().Set(name='middle'),
    take('take_b', 'b', combine='concat'),
    conv.Copy().Set(
      name='up', inputs=2 * CHANNELS, outputs=4 * CHANNELS, up=True
    ),
    take('take_a', 'a', combine='concat'),
    conv.Copy().Set(name='out', inputs=2 * CHANNELS),
  ]


def _batch():
  x = tf.constant(
    np.random.RandomState(3).randn(5, SIZE, SIZE, CHANNELS), tf.float32
  )
  return example_model.Batch(x, tf.zeros_like(x))


# In four cells a and b cross together; a goes from d0 to d3, b from d1 to d2.
MODEL = example_model.Model(
  layers(), _batch, cuts=[(4,), (2, 4, 7)], params={'num_micro_batches': 3}
)
