# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers that pass more than one float tensor on: ints, bools, None, a scalar.

```
  x --> Fork --> (x, y, ids, flags, scalar, None) --> ... --> Join --> x
```

Between the two, layers of one argument are wrapped in `OfFirst`.
"""

from typing import Any

import declared
import lingvo.compat as tf
from drawn_layers import own_layers
from lingvo.core import py_utils


class Fork(own_layers.Layer):
  def FProp(self, theta, x):
    first = tf.stop_gradient(tf.reshape(x, [tf.shape(x)[0], -1])[:, 0])
    first = tf.cast(first, tf.float32)
    ids = tf.cast(4.0 * tf.abs(first), tf.int32)
    scalar = tf.reduce_max(tf.cast(x, tf.float32))
    return x, tf.tanh(x), ids, first > 0, scalar, None


class Turn(own_layers.Layer):
  WEIGHTS = {'table': [4, 'width']}

  def FProp(self, theta, x, y, ids, flags, scalar, none):
    assert none is None
    rows = _per_example(tf.gather(theta.table, ids % 4), x)
    mask = _per_example(flags[:, None], x)
    x = tf.where_v2(mask, x + y, x - 0.5 * y) + rows
    y = y * tf.cast(tf.sigmoid(scalar), y.dtype)
    y += _per_example(tf.gather(theta.table, (ids + 1) % 4), y)
    return x, y, ids + 1, tf.logical_not(flags), scalar * 0.5, None


class Join(own_layers.Layer):
  def FProp(self, theta, x, y, ids, flags, scalar, none):
    assert none is None
    mask = _per_example(tf.logical_or(flags, ids % 2 > 0)[:, None], x)
    return x * tf.cast(tf.tanh(scalar), x.dtype) + tf.where_v2(mask, y, x)


class OfFirst(declared.Layer):
  CHILDREN = ('body',)

  def FProp(self, theta, x, *others):
    return (self.body.FProp(theta.body, x), *others)


class WithPaddings(declared.Layer):
  """Calls a layer that takes paddings of each row; all are zero but the last.

  Its first output, or only one, is returned.
  """

  CHILDREN = ('body',)
  # It takes [time, batch, ...]; [batch, time, 1, width]; query, key and value.
  PARAMS = {'time_major': False, 'channels': False, 'attention': False}

  def FProp(self, theta, x):
    p = self.params
    shape = tf.shape(x)[:2]
    paddings = tf.cast(tf.range(shape[1]) > 2, py_utils.FPropDtype(p))
    paddings = tf.tile(paddings[None], [shape[0], 1])
    paddings.set_shape(x.shape[:2])
    args: tuple[Any, ...] = (x,)
    if p.time_major:
      args = (tf.transpose(x, [1, 0, 2]),)
      paddings = tf.transpose(paddings)[..., None]
    elif p.channels:
      args = (x[:, :, None],)
    elif p.attention:
      args = (x, x, x)
    outputs = self.body.FProp(theta.body, *args, paddings)
    y = outputs[0] if isinstance(outputs, tuple) else outputs
    if p.time_major:
      y = tf.transpose(y, [1, 0, 2])
    elif p.channels:
      y = y[:, :, 0]
    y.set_shape(x.shape)
    return y


class Embedding(declared.Layer):
  """An embedding layer of Lingvo's, by the FProp that not all of them have."""

  CHILDREN = ('body',)

  def FProp(self, theta, ids):
    return self.body.EmbLookup(theta.body, ids)


def _per_example(rows, x):
  """Rows [batch, width or 1], for an x of any rank."""
  shape = [tf.shape(rows)[0], *[1] * (x.shape.rank - 2), rows.shape[-1]]
  return tf.reshape(rows, shape)
