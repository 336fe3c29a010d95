# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's StaticMapStringInt, StaticMapIntString and StaticMapIntInt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_gpipe.lingvo_ops import lookup


def static_map_string_int(
  x: Any,
  keys: Sequence[str | bytes],
  vals: Sequence[int] = (),
  unk: int = -1,
  name: str | None = None,
) -> tf.Tensor:
  """Maps strings to int32.

  Args:
    x: a string tensor.
    keys: the keys, distinct.
    vals: their values; empty for 0, 1, 2, ...
    unk: the value of an element that is not among the keys.
    name: the op's name.

  Returns:
    An int32 tensor of x's shape.

  Raises:
    tf.errors.InvalidArgumentError: keys and values differ in number, or a key
      comes twice.
  """
  vals = vals or range(len(keys))
  keys = [tf.compat.as_bytes(key) for key in keys]
  return _static_map(
    x, tf.string, keys, tf.int32, vals, unk, name or 'StaticMapStringInt'
  )


def static_map_int_string(
  x: Any,
  vals: Sequence[str | bytes],
  keys: Sequence[int] = (),
  unk: str | bytes = '',
  name: str | None = None,
) -> tf.Tensor:
  """Maps int32 to strings; empty `keys` for 0, 1, 2, ...

  See `static_map_string_int`.
  """
  keys = keys or range(len(vals))
  return _static_map(
    x, tf.int32, keys, tf.string, vals, unk, name or 'StaticMapIntString'
  )


def static_map_int_int(
  x: Any,
  vals: Sequence[int],
  keys: Sequence[int] = (),
  unk: int = -1,
  name: str | None = None,
) -> tf.Tensor:
  """Maps int32 to int32; empty `keys` for 0, 1, 2, ..., or empty `vals`.

  See `static_map_string_int`.
  """
  keys, vals = keys or range(len(vals)), vals or range(len(keys))
  return _static_map(
    x, tf.int32, keys, tf.int32, vals, unk, name or 'StaticMapIntInt'
  )


def _static_map(
  x: Any,
  key_dtype: tf.DType,
  keys: Sequence[Any],
  value_dtype: tf.DType,
  vals: Sequence[Any],
  unk: Any,
  name: str,
) -> tf.Tensor:
  if len(keys) != len(vals):
    raise tf.errors.InvalidArgumentError(
      None,
      None,
      f'{name}: keys and vals are different sizes: {len(keys)} and '
      f'{len(vals)}.',
    )
  seen = set()
  for key in keys:
    if key in seen:
      raise tf.errors.InvalidArgumentError(
        None, None, f'{name}: keys have duplicates: {key!r}.'
      )
    seen.add(key)
  with tf.name_scope(name):
    x = tf.convert_to_tensor(x, key_dtype)
    return lookup.lookup(x, keys, vals, unk, value_dtype)
