# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small layers that hold what TensorFlow's graph optimiser likes to rewrite."""

import declared
import lingvo.compat as tf
from lingvo.core import py_utils

# Elementwise functions of x, by name.
ELEMENTWISE = {
  'tanh': tf.tanh,
  'sin': lambda x: 0.37 * tf.sin(x),
  'sigmoid': lambda x: tf.sigmoid(1.3 * x),
  'square': lambda x: 0.1 * tf.square(x),
  'scale': lambda x: 0.7 * x,
  'shift': lambda x: x + 0.3,
  'negate': lambda x: -x,
  'relu': tf.nn.relu,
  'bell': lambda x: tf.exp(-x * x),
  'divide': lambda x: x / 3.0,
  'root': lambda x: tf.sqrt(1.0 + x * x),
  'inverse_root': lambda x: tf.math.rsqrt(2.0 + x * x),
  'inverse': lambda x: 1.0 / (2.0 + x * x),
  'softplus': tf.nn.softplus,
  'product': lambda x: x * tf.sigmoid(x),
  'power': lambda x: tf.pow(1.5 + tf.tanh(x), 3.0),
  'cast': lambda x: tf.cast(tf.cast(x, tf.float32) * 1.1, x.dtype),
  'double': lambda x: x + x,
  'none': lambda x: x - x + x * 1.0 + 0.0,
}


class Layer(declared.Layer):
  """Base class: a float tensor [batch, ..., width] to one of the same shape."""

  PARAMS = {'width': 0}
  DEVIATION = 0.3


class Dense(Layer):
  WEIGHTS = {'w': ['width', 'width']}

  def FProp(self, theta, x):
    return x + tf.tanh(_times(x, theta.w))


class Chain(Layer):
  """Elementwise functions of x: added, multiplied, or one after another."""

  # Keys of ELEMENTWISE; 'sum', 'product' or 'nest'.
  PARAMS = {'ops': (), 'combine': 'sum'}

  def FProp(self, theta, x):
    p = self.params
    result = x
    for i, op in enumerate(p.ops):
      y = ELEMENTWISE[op](result if p.combine == 'nest' else x)
      if i == 0 or p.combine == 'nest':
        result = y
      elif p.combine == 'sum':
        result = result + y
      else:
        result = result * y
    return result


class ManyUses(Layer):
  """The input, a weight and a product of both are each used several times."""

  WEIGHTS = {'w': ['width', 'width'], 'scale': ['width']}

  def FProp(self, theta, x):
    y = _times(x, theta.w)
    z = tf.tanh(y + theta.scale) * x
    again = _times(tf.sigmoid(y), theta.w)
    return x + 0.5 * z + again * theta.scale + y * theta.scale


class Loop(Layer):
  PARAMS = {'trips': 2}
  WEIGHTS = {'w': ['width', 'width']}

  def FProp(self, theta, x):
    def step(i, y):
      return i + 1, y + 0.5 * tf.tanh(_times(y, theta.w)) * x

    _, y = tf.while_loop(
      lambda i, _: i < self.params.trips,
      step,
      (0, x),
      shape_invariants=(tf.TensorShape([]), x.shape),
      maximum_iterations=self.params.trips,
    )
    return y


class Branch(Layer):
  """A tf.cond: by a weight, or by the micro-batch's numbers."""

  PARAMS = {'by_data': False}
  WEIGHTS = {'w': ['width', 'width'], 'scale': ['width']}

  def FProp(self, theta, x):
    decides = x if self.params.by_data else theta.scale
    return tf.cond(
      tf.reduce_sum(tf.stop_gradient(decides)) > 0,
      lambda: x + tf.tanh(_times(x, theta.w)),
      lambda: x * theta.scale + 0.5,
    )


class Frozen(Layer):
  WEIGHTS = {
    'w': ['width', 'width'],
    'unused': ['width'],
    'stopped': ['width'],
    'frozen': ['width', 'width'],
  }
  FROZEN = ('frozen',)

  def FProp(self, theta, x):
    y = _times(x, theta.frozen) + tf.stop_gradient(x * theta.stopped)
    return x + 0.5 * tf.tanh(_times(y, theta.w))


class Stopped(Layer):
  def FProp(self, theta, x):
    return tf.stop_gradient(x)


class Lookup(Layer):
  """Adds rows of a table, by numbers found in x: a sparse gradient."""

  PARAMS = {'twice': False}
  WEIGHTS = {'table': [5, 'width']}

  def FProp(self, theta, x):
    ids = tf.cast(tf.stop_gradient(2.0 * tf.abs(x[..., 0])), tf.int32) % 5
    y = x + tf.gather(theta.table, ids)
    if self.params.twice:
      y *= 1.0 + tf.gather(theta.table, (ids + 1) % 5)
    return y


class Pieces(Layer):
  def FProp(self, theta, x):
    first, second = tf.split(x, 2, axis=-1)
    swapped = tf.concat([second, tf.square(first)], axis=-1)
    padded = tf.pad(
      x[..., 1:], [*[[0, 0]] * (x.shape.rank - 1), [1, 0]], constant_values=0.5
    )
    backwards = tf.reverse(x, [-1])
    return 0.5 * swapped + padded * backwards - 0.2 * tf.cumsum(x, axis=-1)


class Windows(Layer):
  """What is done in windows of images [batch, height, 2, width]."""

  PARAMS = {'op': 'pool'}
  WEIGHTS = {'w': [3, 3, 'width', 'width'], 'bias': ['width']}

  def FProp(self, theta, x):
    return x + _WINDOW_OPS[self.params.op](theta, x)


def _pool_3d(theta, x):
  pooled = tf.nn.max_pool3d(tf.stack([x, theta.bias * x], 1), 3, 1, 'SAME')
  return tf.reduce_sum(pooled, 1)


def _padded(theta, x):
  # One column more than is needed: with these oneDNN adds in another order.
  padded = tf.pad(x, [[0, 0], [1, 1], [1, 2], [0, 0]])
  return tf.nn.conv2d(padded, theta.w, 1, 'VALID')[:, :, :-1]


def _stacked(theta, x):
  """Two convolutions, whose gradients are outputs of one op."""
  first = tf.nn.bias_add(tf.nn.conv2d(x, theta.w, 1, 'SAME'), theta.bias)
  second = tf.nn.conv2d(tf.tanh(x), theta.w, 1, 'SAME')
  return tf.reduce_sum(tf.square(tf.stack([first, second])), 0)


_WINDOW_OPS = {
  'pool': lambda theta, x: tf.nn.max_pool2d(x, 3, 1, 'SAME'),
  'pool_of_ties': lambda theta, x: tf.nn.max_pool2d(
    tf.nn.relu(x), 3, 1, 'SAME'
  ),
  'pool_3d': _pool_3d,
  'normalisation': lambda theta, x: tf.nn.local_response_normalization(x, 2),
  'padded': _padded,
  'stacked': _stacked,
}
WINDOW_OPS = tuple(_WINDOW_OPS)


class Reduced(Layer):
  def FProp(self, theta, x):
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    square = tf.reduce_mean(tf.square(x - mean), axis=-1, keepdims=True)
    norm = (x - mean) * tf.math.rsqrt(square + 0.1)
    largest = tf.reduce_max(x, axis=-1, keepdims=True)
    return norm + tf.nn.softmax(x) * largest + tf.nn.log_softmax(x) * 0.1


class Transposed(Layer):
  WEIGHTS = {'w': [2, 2], 'b': [2, 1]}

  def FProp(self, theta, x):
    shape = tf.shape(x)
    y = tf.reshape(x, [-1, self.params.width // 2, 2])
    y = tf.transpose(
      tf.matmul(y, tf.tile(theta.w[None], [tf.shape(y)[0], 1, 1])), [0, 2, 1]
    )
    y = tf.transpose(tf.nn.relu(y + theta.b), [0, 2, 1])
    y = tf.reshape(y, shape)
    y.set_shape(x.shape)
    return x + y


class AddsLoss(Layer):
  WEIGHTS = {'w': ['width']}

  def FProp(self, theta, x):
    loss = tf.reduce_mean(tf.square(tf.cast(x * theta.w, tf.float32)))
    if py_utils.AuxLossContext.Current() is not None:
      py_utils.AuxLossContext.Current().AddLoss(0.1 * loss)
    return x + theta.w


class Reshape(declared.Layer):
  PARAMS = {'shape': ()}

  def FProp(self, theta, x):
    return tf.reshape(x, [-1, *self.params.shape])


def _times(x, w):
  rows = tf.reshape(x, [-1, w.shape[0]])
  shape = tf.concat([tf.shape(x)[:-1], [w.shape[1]]], axis=0)
  y = tf.reshape(tf.matmul(rows, w), shape)
  y.set_shape([*x.shape[:-1], w.shape[1]])
  return y
