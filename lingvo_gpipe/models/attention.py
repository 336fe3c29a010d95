# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal self-attention over packed sequences, whole or token by token."""

import lingvo.compat as tf
import numpy as np
from lingvo.core import base_layer, layers, py_utils

# Added to the scores of what must not be seen. Not -inf: rows of nothing else
# would be NaN. Large enough that e to this power is 0 even so.
_HIDDEN = -1e9


def create_bias(layer, dim):
  """Gives a layer the variable `b`, of zeros."""
  layer.CreateVariable(
    'b',
    py_utils.WeightParams(
      [dim],
      py_utils.WeightInit.Constant(0.0),
      layer.params.dtype,
      collections=[py_utils.SKIP_LP_REGULARIZATION],
    ),
  )


class LinearLayer(base_layer.BaseLayer):
  """x w + b over the last dimension, as one product of two matrices.

  Weights start Gaussian with deviation scale / sqrt(input_dim), biases at 0.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'Last dimension of the input.')
    p.Define('output_dim', 0, 'Last dimension of the output.')
    p.Define('scale', 1.0, 'Scale of the initial weights.')
    return p

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    p = self.params
    init = py_utils.WeightInit.Gaussian(p.scale * p.input_dim**-0.5)
    self.CreateVariable(
      'w', py_utils.WeightParams([p.input_dim, p.output_dim], init, p.dtype)
    )
    create_bias(self, p.output_dim)

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


class CausalSelfAttention(base_layer.BaseLayer):
  """Multi-head attention of each token to itself and those before it.

  In packed sequences a token sees only its own segment:

  ```
    segment  1 1 1 2 2          x sees x
             x
             x x
             x x x
                   x
                   x x
  ```

  Scores are scaled by 1 / sqrt(head size), and their softmax is float32
  whatever the activations' dtype.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('model_dim', 0, 'Last dimension of input and output.')
    p.Define('num_heads', 1, 'Number of heads; divides model_dim.')
    p.Define('output_scale', 1.0, 'The scale of the last LinearLayer.')
    dropout = layers.DeterministicDropoutLayer.Params()
    p.Define('dropout', dropout, 'Dropout of the attention weights.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if p.num_heads < 1 or p.model_dim % p.num_heads:
      raise ValueError(
        f'{p.name}: model_dim must be a multiple of num_heads, got '
        f'model_dim={p.model_dim} and num_heads={p.num_heads}.'
      )
    linear = LinearLayer.Params().Set(input_dim=p.model_dim)
    self.CreateChild('qkv', linear.Copy().Set(output_dim=3 * p.model_dim))
    output = linear.Set(output_dim=p.model_dim, scale=p.output_scale)
    self.CreateChild('output', output)
    self.CreateChild('dropout', p.dropout)

  @property
  def _head_dim(self):
    return self.params.model_dim // self.params.num_heads

  def FProp(self, theta, inputs, segment_ids=None):
    """Maps [batch, time, model_dim] to the same shape.

    `segment_ids` are [batch, time], or None if each row is one segment.
    """
    with tf.name_scope(self.params.name):
      query, key, value = self._QueryKeyValue(theta, inputs)
      length = py_utils.GetShape(inputs)[1]
      visible = _Causal(length)
      if segment_ids is not None:
        same = tf.equal(
          segment_ids[:, :, tf.newaxis], segment_ids[:, tf.newaxis, :]
        )
        visible = tf.logical_and(visible, same)[:, tf.newaxis]
      return self._Attend(theta, query, key, value, visible)

  def ZeroState(self, batch, max_length):
    """The keys and values, [batch, num_heads, max_length, head size] each."""
    p = self.params
    shape = [batch, p.num_heads, max_length, self._head_dim]
    dtype = py_utils.FPropDtype(p)
    return py_utils.NestedMap(
      key=tf.zeros(shape, dtype), value=tf.zeros(shape, dtype)
    )

  def ExtendStep(self, theta, inputs, state, time):
    """Continues by [batch, new, model_dim], the tokens `time` and on.

    Returns what `FProp` returns for them, and the new state.
    """
    with tf.name_scope(self.params.name):
      query, key, value = self._QueryKeyValue(theta, inputs)
      state = py_utils.NestedMap(
        key=_Write(state.key, key, time), value=_Write(state.value, value, time)
      )
      new, length = py_utils.GetShape(inputs)[1], state.key.shape[2]
      visible = tf.range(length) <= tf.range(time, time + new)[:, tf.newaxis]
      output = self._Attend(theta, query, state.key, state.value, visible)
      return output, state

  def _QueryKeyValue(self, theta, inputs):
    """Three tensors [batch, num_heads, time, head size]; queries scaled."""
    batch, time, _ = py_utils.GetShape(inputs)
    joint = tf.reshape(
      self.qkv.FProp(theta.qkv, inputs),
      [batch, time, 3, self.params.num_heads, self._head_dim],
    )
    query, key, value = tf.unstack(tf.transpose(joint, [2, 0, 3, 1, 4]))
    return query * self._head_dim**-0.5, key, value

  def _Attend(self, theta, query, key, value, visible):
    """`visible` broadcasts to [batch, num_heads, queries, keys]."""
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
    scores += tf.where_v2(visible, 0.0, _HIDDEN)
    weights = tf.cast(tf.nn.softmax(scores), value.dtype)
    weights = self.dropout.FProp(theta.dropout, weights)
    heads = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
    batch, time, _, _ = py_utils.GetShape(heads)
    joined = tf.reshape(heads, [batch, time, self.params.model_dim])
    return self.output.FProp(theta.output, joined)


def _Causal(length):
  if isinstance(length, int):
    return tf.constant(np.tri(length, dtype=bool))
  positions = tf.range(length)
  return positions <= positions[:, tf.newaxis]


def _Write(cache, new, time):
  end = time + py_utils.GetShape(new)[2]
  all_but_time = 0b1011
  # In place if nothing else reads the cache.
  return tf.raw_ops.TensorStridedSliceUpdate(
    input=cache,
    begin=tf.stack([0, 0, time, 0]),
    end=tf.stack([0, 0, end, 0]),
    strides=[1, 1, 1, 1],
    value=new,
    begin_mask=all_but_time,
    end_mask=all_but_time,
  )
