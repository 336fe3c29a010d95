# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import costed_layers
import lingvo.compat as tf
import pytest
from costed_layers import spec
from lingvo.core import batch_major_attention, layers, rnn_cell, rnn_layers

from lingvo_gpipe.models import amoebanet, image_layers


def _scaled(*args):
  *args, scale = args
  args = [x * scale if x.dtype.is_floating else x for x in args]
  return args[0] if len(args) == 1 else tuple(args)


def cost(params, *args):
  """The cost of a layer that is not the first one."""
  # The one before it makes it have gradients of its inputs.
  first = costed_layers.computing(_scaled, [1], 'first')
  return costed_layers.flops_costs([first, params.Set(name='layer')], args)[1]


def times(params, *args):
  layer = cost(params, *args)
  return layer.forward, layer.backward


def test_fully_connected():
  layer = layers.FCLayer.Params().Set(
    input_dim=7, output_dim=11, activation='RELU'
  )
  rows = 2 * 3  # Examples and time steps.
  product, outputs = 2 * rows * 7 * 11, rows * 11
  assert cost(layer, spec(2, 3, 7)).forward == product + 2 * outputs
  assert times(layer, spec(rows, 7)) == (
    product + 2 * outputs,  # Bias, ReLU.
    # By the input and by the weight; ReLU, bias.
    2 * product + 2 * outputs,
  )


def _conv2d(stride, padding='SAME'):
  return lambda x, w: tf.nn.conv2d(x, w, strides=stride, padding=padding)


def _depthwise(stride):
  strides = [1, stride, stride, 1]
  return lambda x, w: tf.nn.depthwise_conv2d(x, w, strides, 'SAME')


def _conv3d(x, w):
  return tf.nn.conv3d(x, w, [1, 1, 2, 2, 1], 'SAME')


@pytest.mark.parametrize(
  ('function', 'inputs', 'weight', 'outputs', 'taps'),
  [
    (_conv2d(1), (9, 8, 6), [3, 5, 6, 10], 9 * 8 * 10, 3 * 5 * 6),
    (_conv2d(2), (9, 8, 6), [3, 5, 6, 10], 5 * 4 * 10, 3 * 5 * 6),
    (_conv2d((2, 1)), (9, 8, 6), [3, 5, 6, 10], 5 * 8 * 10, 3 * 5 * 6),
    (_conv2d(1, 'VALID'), (9, 8, 6), [3, 5, 6, 10], 7 * 4 * 10, 3 * 5 * 6),
    (_conv2d(2, 'VALID'), (9, 8, 6), [3, 5, 6, 10], 4 * 2 * 10, 3 * 5 * 6),
    # Two groups of three channels, each of which meets its own alone.
    (_conv2d(1), (4, 4, 6), [1, 1, 3, 10], 4 * 4 * 10, 3),
    # Each channel makes three.
    (_depthwise(1), (6, 6, 4), [3, 5, 4, 3], 6 * 6 * 12, 3 * 5),
    (_depthwise(2), (6, 6, 4), [3, 5, 4, 3], 3 * 3 * 12, 3 * 5),
    (_conv3d, (7, 6, 6, 4), [3, 2, 2, 4, 5], 7 * 3 * 3 * 5, 3 * 2 * 2 * 4),
  ],
)
def test_convolutions(function, inputs, weight, outputs, taps):
  layer = costed_layers.computing(function, weight)
  product = 2 * (2 * outputs) * taps
  forward, backward = times(layer, spec(2, *inputs))
  assert forward == product
  if taps > 3:  # Gradients of groups are sums over all channels.
    assert backward == 2 * product


@pytest.mark.parametrize('stride', [1, 2])
def test_transposed_convolutions(stride):
  layer = layers.DeconvLayer.Params().Set(
    filter_shape=(3, 3, 8, 6), filter_stride=(stride, stride)
  )
  # Each number of the input meets each tap of the filter.
  product = 2 * (2 * 5 * 5 * 6) * (3 * 3 * 8)
  assert times(layer, spec(2, 5, 5, 6)) == (product, 2 * product)


def test_multi_head_attention():
  batch, time, dim, heads = 2, 6, 32, 4
  params = batch_major_attention.MultiHeadedAttention.Params().Set(
    input_dim=dim,
    hidden_dim=dim,
    num_heads=heads,
    dropout_tpl=layers.DeterministicDropoutLayer.Params(),
    enable_per_dim_scale=False,
  )
  layer = cost(params, *[spec(batch, time, dim)] * 3, spec(batch, time))
  positions = batch * time
  projections = 4 * (2 * positions * dim * dim)
  scores = batch * heads * time * time
  # Queries by keys, probabilities by values.
  products = 2 * (2 * scores * (dim // heads))
  biases = 4 * positions * dim
  element_wise = (
    positions * dim  # The queries' scale.
    + 5 * scores  # Softmax.
    + scores  # What is padded is set to a large negative number.
  )
  exact = projections + products + biases
  assert exact <= layer.forward <= exact + element_wise + 10 * positions
  # Each product has two gradients.
  exact = 2 * (projections + products)
  assert (
    exact <= layer.backward <= exact + biases + 2 * element_wise + 4 * scores
  )


def test_recurrent_layer_counts_each_time_step():
  batch, time, inputs, cells = 4, 5, 8, 16
  cell = rnn_cell.LSTMCellSimple.Params().Set(
    name='cell', num_input_nodes=inputs, num_output_nodes=cells
  )
  params = rnn_layers.FRNN.Params().Set(cell=cell)
  layer = cost(params, spec(time, batch, inputs), spec(time, batch, 1))
  numbers = batch * cells
  product = 2 * batch * (inputs + cells) * (4 * cells)
  element_wise = (
    4 * numbers  # Biases.
    + 3 * numbers  # Sigmoids.
    + 2 * numbers  # Hyperbolic tangents.
    + 4 * numbers  # c = f c + i g and m = o tanh(c).
    + 2 * numbers  # c is kept within bounds.
    + 2 * numbers  # Where the input is padded, c and m stay.
  )
  assert layer.forward == pytest.approx(
    time * (product + element_wise), abs=time * 10 * batch
  )
  # A step of Lingvo's backward loop runs the step anew, then two products for
  # the gradients.
  assert layer.backward > time * 3 * product
  assert layer.backward < time * (3 * product + 6 * element_wise)


def test_embedding_look_ups_and_reshapes_are_free():
  def embed(ids, table):
    rows = tf.transpose(tf.gather(table, ids), [1, 0, 2])
    return tf.reshape(tf.concat([rows, rows], -1)[:, 1:], [-1])

  [layer] = costed_layers.flops_costs(
    [costed_layers.computing(embed, [50, 8])], spec(3, 4, dtype=tf.int32)
  )
  assert layer.forward == 0
  # Nothing but the sum of the two halves' gradients.
  assert layer.backward == 3 * 4 * 8


def test_batch_norm_and_pooling():
  params = image_layers.ReluConvBatchNorm.Params().Set(
    input_dim=6, output_dim=10
  )
  inputs, outputs = 2 * 4 * 4 * 6, 2 * 4 * 4 * 10
  forward, _ = times(params, spec(2, 4, 4, 6))
  # ReLU; a 1 x 1 convolution; batch norm, then the moving averages.
  assert forward == pytest.approx(
    inputs + 2 * outputs * 6 + 6 * outputs, abs=20 * 10
  )
  pool = image_layers.PoolLayer.Params().Set(window=3, stride=2)
  forward, backward = times(pool, spec(2, 4, 4, 6))
  # The gradient takes the maximum again.
  assert forward == 9 * (2 * 2 * 2 * 6)
  assert backward == 2 * forward


def test_amoebanet_d_of_one_cell_a_run():
  layers_of_it = amoebanet.AmoebaNetLayers(
    amoebanet.AmoebaNetParams().Set(num_normal_cells=3, dim=256)
  )
  costs = costed_layers.flops_costs(layers_of_it, spec(1, 224, 224, 3))
  total = sum(cost.forward for cost in costs)
  # Counted from the published structure alone: for each number out of a
  # convolution 2 x window x channels in and 6 for batch norm; 1 for each number
  # in (ReLU), in a window of pooling, in a sum of states.
  assert total == pytest.approx(9_183_702_504, rel=1e-3)
  # Two products in the backward pass for each in the forward pass.
  backward = sum(cost.backward for cost in costs)
  assert backward == pytest.approx(2 * total, rel=0.02)
