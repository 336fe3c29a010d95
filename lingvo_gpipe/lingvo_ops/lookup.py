# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Look-up in a constant table, without a table initializer to run.

`tf.lookup.StaticHashTable` wants its initializer run before the graph is used,
which Lingvo does not promise. Here the initialisation is part of the look-up:
TensorFlow does nothing on a table that has its data already, so only the first
run pays for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def lookup(
  x: tf.Tensor,
  keys: Sequence[Any],
  values: Sequence[Any],
  default: Any,
  value_dtype: tf.DType,
) -> tf.Tensor:
  """The value of each element of `x`.

  Args:
    x: an int32, int64 or string tensor of any shape.
    keys: distinct, of x's type.
    values: one for each key.
    default: the value of an element that is not among the keys.
    value_dtype: the values' type: int32, int64 or string; bool for string
      keys.

  Returns:
    A tensor of `value_dtype`, of x's shape.
  """
  default = tf.constant(default, value_dtype)
  if not keys:
    return tf.fill(tf.shape(x), default)
  keys = tf.constant(list(keys), x.dtype)
  values = tf.constant(list(values), value_dtype)
  if tf.executing_eagerly():
    data = tf.lookup.KeyValueTensorInitializer(keys, values)
    return tf.lookup.StaticHashTable(data, default).lookup(x)
  table = tf.raw_ops.HashTableV2(
    key_dtype=x.dtype,
    value_dtype=value_dtype,
    shared_name=f'lingvo_gpipe_lookup_{uuid.uuid4().hex}',
  )
  initialise = tf.raw_ops.InitializeTableV2(
    table_handle=table, keys=keys, values=values
  )
  with tf.control_dependencies([initialise]):
    y = tf.raw_ops.LookupTableFindV2(
      table_handle=table, keys=x, default_value=default
    )
  y.set_shape(x.shape)
  return y
