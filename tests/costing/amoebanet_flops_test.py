# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""FLOPs of AmoebaNet-D against a count made from its structure alone.

The count below knows nothing of our layers: it goes through the network as
published, keeps height, width and channels of each state, and adds up

* a convolution: 2 x window x channels in x numbers out, padding included, with
  the ReLU before it (1 a number in) and the batch norm behind it (6 a number
  out: mean 1, variance 3, scale and offset 2);
* pooling: 1 for each number in each window;
* a sum of two states: 1 a number;
* the mean over the image, and the linear layer with its bias.
"""

import math

import costed_layers
import lingvo.compat as tf
import pytest

from lingvo_gpipe.models import amoebanet

# Steps of a cell: pairs of (state, operation) whose results are added.
_NORMAL = [
  [(1, '1x1'), (1, 'max3')],
  [(1, 'none'), (0, '1x7_7x1')],
  [(0, '1x1'), (0, '1x7_7x1')],
  [(2, 'max3'), (2, 'none')],
  [(1, 'avg3'), (5, '1x1')],
]
_REDUCTION = [
  [(0, 'max2'), (0, 'max3')],
  [(2, 'none'), (1, '3x3')],
  [(2, '1x7_7x1'), (2, 'max3')],
  [(3, 'none'), (1, 'max2')],
  [(2, 'avg3'), (3, '1x1')],
]
_WINDOWS = {'3x3': [(3, 3)], '1x7_7x1': [(1, 7), (7, 1)]}


class Count:
  """FLOPs of images, which are (height, width, channels)."""

  def __init__(self):
    self.flops = 0

  def conv(self, x, channels, window=(1, 1), strides=(1, 1)):
    """ReLU, convolution, batch norm."""
    out = (*_strided(x, strides)[:2], channels)
    taps = math.prod(window) * x[2]
    self.flops += math.prod(x) + (2 * taps + 6) * math.prod(out)
    return out

  def operation(self, kind, x, stride):
    if kind == 'none':
      return x
    strides = (stride, stride)
    if kind[:3] in ('max', 'avg'):
      out = _strided(x, strides)
      self.flops += int(kind[3]) ** 2 * math.prod(out)
      return out
    if kind == '1x1':
      return self.conv(x, x[2], strides=strides)
    width = x[2] // 4
    out = self.conv(x, width)
    for window in _WINDOWS[kind]:
      along = tuple(stride if size > 1 else 1 for size in window)
      out = self.conv(out, width, window, along)
    return self.conv(out, x[2])

  def cell(self, reduction, channels, x, before):
    states = [self.conv(x, channels), before]
    if before[0] != x[0]:
      # Two convolutions with half of the channels each, at stride 2.
      states[1] = self.conv(before, channels, strides=(2, 2))
    elif before[2] != channels:
      states[1] = self.conv(before, channels)
    for step in _REDUCTION if reduction else _NORMAL:
      result, _ = (
        self.operation(kind, states[state], 2 if reduction and state < 2 else 1)
        for state, kind in step
      )
      self.flops += math.prod(result)
      states.append(result)
    return (*states[-1][:2], channels * (3 if reduction else 4))


def _strided(x, strides):
  size = (math.ceil(n / stride) for n, stride in zip(x, strides, strict=False))
  return (*size, x[2])


def amoebanet_d(num_normal, dim, size, num_classes):
  """FLOPs of the forward pass of one image."""
  count = Count()
  x = before = count.conv((size, size, 3), dim // 4, (3, 3), (2, 2))
  channels = dim // 4
  runs = ('n' * (num_normal // 3) + 'r') * 3
  # There is no reduction behind the last run.
  for kind in 'rr' + runs[:-1]:
    if kind == 'r':
      channels *= 2
    x, before = count.cell(kind == 'r', channels, x, before), x
  return count.flops + math.prod(x) + (2 * x[2] + 1) * num_classes


def test_amoebanet_d_of_one_cell_a_run():
  layers = amoebanet.AmoebaNetLayers(
    amoebanet.AmoebaNetParams().Set(num_normal_cells=3, dim=256)
  )
  costs = costed_layers.flops_costs(layers, tf.TensorSpec([1, 224, 224, 3]))
  total = sum(cost.forward for cost in costs)
  assert total == pytest.approx(amoebanet_d(3, 256, 224, 1000), rel=1e-3)
  # Two products in the backward pass for each in the forward pass.
  backward = sum(cost.backward for cost in costs)
  assert backward == pytest.approx(2 * total, rel=0.02)
