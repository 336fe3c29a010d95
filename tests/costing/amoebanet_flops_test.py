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

import dataclasses
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


@dataclasses.dataclass
class Image:
  """A tensor's height, width and channels."""

  height: int
  width: int
  channels: int

  @property
  def numbers(self):
    return self.height * self.width * self.channels


@dataclasses.dataclass
class Count:
  """FLOPs so far, those of products apart."""

  products: int = 0
  others: int = 0

  def conv(self, x, channels, window=(1, 1), stride=(1, 1)):
    """ReLU, convolution, batch norm."""
    out = Image(
      math.ceil(x.height / stride[0]), math.ceil(x.width / stride[1]), channels
    )
    self.products += 2 * window[0] * window[1] * x.channels * out.numbers
    self.others += x.numbers + 6 * out.numbers
    return out

  def operation(self, kind, x, stride):
    if kind == 'none':
      assert stride == 1
      return x
    if kind[:3] in ('max', 'avg'):
      out = Image(
        math.ceil(x.height / stride), math.ceil(x.width / stride), x.channels
      )
      self.others += int(kind[3]) ** 2 * out.numbers
      return out
    if kind == '1x1':
      return self.conv(x, x.channels, stride=(stride, stride))
    width = x.channels // 4
    out = self.conv(x, width)
    for window in _WINDOWS[kind]:
      steps = tuple(stride if size > 1 else 1 for size in window)
      out = self.conv(out, width, window, steps)
    return self.conv(out, x.channels)

  def cell(self, reduction, channels, x, before):
    """One cell; returns its output."""
    states = [self.conv(x, channels), before]
    if before.height != x.height:
      # Two convolutions with half of the channels each, at stride 2.
      states[1] = self.conv(before, channels, stride=(2, 2))
    elif before.channels != channels:
      states[1] = self.conv(before, channels)
    for step in _REDUCTION if reduction else _NORMAL:
      results = [
        self.operation(kind, states[state], 2 if reduction and state < 2 else 1)
        for state, kind in step
      ]
      self.others += results[0].numbers
      states.append(results[0])
    out = states[-1]
    return Image(out.height, out.width, channels * (3 if reduction else 4))


def amoebanet_d(num_normal, dim, size, num_classes):
  """Counts the forward pass of one image."""
  count = Count()
  x = before = count.conv(Image(size, size, 3), dim // 4, (3, 3), (2, 2))
  channels = dim // 4
  for kind in 'rr' + ('n' * (num_normal // 3) + 'r') * 3:
    if kind == 'r':
      channels *= 2
    if kind == 'r' and channels > 4 * dim:
      break  # There is no reduction behind the last run.
    x, before = count.cell(kind == 'r', channels, x, before), x
  count.others += x.numbers
  count.products += 2 * x.channels * num_classes
  count.others += num_classes
  return count


def test_the_count_is_that_of_a_network_counted_by_hand():
  """The stem and the linear layer, the only parts that are easy by hand."""
  count = Count()
  out = count.conv(Image(224, 224, 3), 64, (3, 3), (2, 2))
  assert (out.height, out.width) == (112, 112)
  assert count.products == 2 * 27 * 64 * 112 * 112
  assert count.others == 3 * 224 * 224 + 6 * 64 * 112 * 112


def test_amoebanet_d_of_one_cell_a_run():
  layers = amoebanet.AmoebaNetLayers(
    amoebanet.AmoebaNetParams().Set(num_normal_cells=3, dim=256)
  )
  costs = costed_layers.flops_costs(layers, tf.TensorSpec([1, 224, 224, 3]))
  count = amoebanet_d(3, 256, 224, 1000)
  total = sum(cost.forward for cost in costs)
  assert total == pytest.approx(count.products + count.others, rel=1e-3)
  # Two products in the backward pass for each in the forward pass.
  backward = sum(cost.backward for cost in costs)
  assert backward == pytest.approx(2 * total, rel=0.02)
