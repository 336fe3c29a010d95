# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shape assertions: Lingvo's AssertShapeMatch and AssertSameDim0.

Layers assert on nearly every call, so an assertion that the static shapes
already settle adds nothing to the graph but a no-op. What remains is one
`Assert` op: its data are strings and int32, which TensorFlow asserts without a
conditional around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_UNKNOWN = -1


def assert_shape_match(
  x: Any, y: Any, msg: str = '', name: str | None = None
) -> tf.Operation | None:
  """Asserts that two shape vectors match.

  Dimension i matches if x[i] == y[i], or if either is -1.

  Args:
    x: an int32 vector.
    y: an int32 vector.
    msg: the beginning of the error's message.
    name: the op's name.

  Returns:
    The assertion, an op without outputs; None in eager mode.

  Raises:
    tf.errors.InvalidArgumentError: they differ in length or in a dimension, or
      one is not a vector; when the op runs.
  """
  with tf.name_scope(name or 'AssertShapeMatch'):
    x = tf.convert_to_tensor(x, tf.int32)
    y = tf.convert_to_tensor(y, tf.int32)
    if x.shape.rank not in (None, 1) or y.shape.rank not in (None, 1):
      return _assert(False, f'{msg} x and y must be vectors.', x, y)
    match = _static_match(x, y)
    if match:
      return _pass()
    if match is None:
      match = _dynamic_match(x, y)
    return _assert(match, f'{msg} mismatch shape: x and y:', x, y)


def assert_same_dim0(
  x: Sequence[Any], msg: str = '', name: str | None = None
) -> tf.Operation | None:
  """Asserts that all tensors are non-scalar and have the same dimension 0.

  Args:
    x: tensors, of any types. None at all is right too.
    msg: the beginning of the error's message.
    name: the op's name.

  Returns:
    The assertion, an op without outputs; None in eager mode.

  Raises:
    tf.errors.InvalidArgumentError: one is a scalar, or two differ; when the
      op runs.
  """
  with tf.name_scope(name or 'AssertSameDim0'):
    x = [tf.convert_to_tensor(t) for t in x]
    scalars = [i for i, t in enumerate(x) if t.shape.rank == 0]
    if scalars:
      return _assert(False, f'{msg} {scalars[0]}-th input is a scalar.')
    sizes = {t.shape[0] if t.shape.rank else None for t in x}
    if len(sizes) <= 1 and None not in sizes:
      return _pass()
    # A scalar's shape has no first element, so -1 stands for it.
    dims = tf.concat([tf.concat([tf.shape(t), [-1]], 0)[:1] for t in x], 0)
    same = tf.reduce_all(tf.equal(dims, dims[0])) & tf.not_equal(dims[0], -1)
    message = f'{msg} an input is a scalar (-1) or has a different dim0:'
    return _assert(same, message, dims)


def _static_match(x: tf.Tensor, y: tf.Tensor) -> bool | None:
  """Whether x matches y; None if their static values do not tell."""
  xs = tf.get_static_value(x, partial=True)
  ys = tf.get_static_value(y, partial=True)
  if xs is None or ys is None:
    return None
  if len(xs) != len(ys):
    return False
  pairs = [
    (a, b) for a, b in zip(xs, ys, strict=True) if _UNKNOWN not in (a, b)
  ]
  if any(a is None or b is None for a, b in pairs):
    return None
  return all(a == b for a, b in pairs)


def _dynamic_match(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  # Equal lengths go before the element-wise comparison, which would broadcast
  # or fail; both are cut to the shorter length for it.
  n = tf.minimum(tf.size(x), tf.size(y))
  a, b = x[:n], y[:n]
  dims = tf.equal(a, b) | tf.equal(a, _UNKNOWN) | tf.equal(b, _UNKNOWN)
  return tf.reduce_all(dims) & tf.equal(tf.size(x), tf.size(y))


def _pass() -> tf.Operation | None:
  return None if tf.executing_eagerly() else tf.no_op()


def _assert(
  condition: bool | tf.Tensor, message: str, *data: tf.Tensor
) -> tf.Operation | None:
  return tf.debugging.Assert(condition, [message, *data], summarize=10)
