# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's ApplyPacking: rearranges tensors as a packing says."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def apply_packing(
  input: Any,
  padding: Any,
  segment_ids: Any,
  indices_in_input: Any,
  name: str | None = None,
) -> tf.Tensor:
  """Applies a packing pattern.

  Args:
    input: [N, time, ...], to be packed along time; or [N], of numbers to be
      added up, or of strings to be joined, for each packed row.
    padding: a scalar of input's type: what fills the gaps; between strings,
      the separator.
    segment_ids: [rows, size], int32; 0 in the gaps. A run of one id is a
      segment.
    indices_in_input: [rows, size], int32: the segments' places in the input.
    name: the op's name.

  Returns:
    [rows, size, ...], or [rows].

  Raises:
    ValueError: the shapes are known, and are not these.
    tf.errors.InvalidArgumentError: the pattern is out of the input's bounds;
      when the op runs.
  """
  with tf.name_scope(name or 'ApplyPacking'):
    x = tf.convert_to_tensor(input)
    padding = tf.convert_to_tensor(padding, x.dtype)
    segments = tf.convert_to_tensor(segment_ids, tf.int32)
    indices = tf.convert_to_tensor(indices_in_input, tf.int32)
    _check_shapes(x, padding, segments, indices)
    if x.dtype == tf.string or x.shape.rank == 1:
      return _pack_vector(x, padding, segments, indices)
    if x.shape.rank is None:
      raise ValueError('apply_packing: the rank of input must be known.')
    return _pack_matrix(x, padding, segments, indices)


def _check_shapes(
  x: tf.Tensor, padding: tf.Tensor, segments: tf.Tensor, indices: tf.Tensor
) -> None:
  if padding.shape.rank not in (None, 0):
    raise ValueError(
      f'padding must be a scalar, got padding shape: {padding.shape}'
    )
  matrix = tf.TensorShape([None, None])
  if not (
    segments.shape.is_compatible_with(indices.shape)
    and segments.shape.is_compatible_with(matrix)
  ):
    raise ValueError(
      f'segment_ids and indices_in_input must be matrices of the same shape, '
      f'got: {segments.shape} vs. {indices.shape}'
    )
  if x.shape.rank == 0 or (x.dtype == tf.string and (x.shape.rank or 1) != 1):
    raise ValueError(
      f'input must have at least one dimension, and a string input must be a '
      f'vector, got input shape: {x.shape}'
    )


def _pack_matrix(
  x: tf.Tensor, padding: tf.Tensor, segments: tf.Tensor, indices: tf.Tensor
) -> tf.Tensor:
  rows, size = tf.unstack(tf.shape(segments))
  n, time = tf.shape(x)[0], tf.shape(x)[1]
  # Runs of equal ids, in one line: where each begins, and how far in it a
  # cell is.
  before = tf.concat([tf.zeros([rows, 1], tf.int32) - 1, segments[:, :-1]], 1)
  begins = tf.reshape(tf.not_equal(segments, before), [-1])
  begins |= tf.equal(tf.range(rows * size) % tf.maximum(size, 1), 0)
  starts = tf.cast(tf.where(begins)[:, 0], tf.int32)
  start = tf.gather(starts, tf.cumsum(tf.cast(begins, tf.int32)) - 1)
  offset = tf.range(rows * size) - start
  source = tf.gather(tf.reshape(indices, [-1]), start)
  used = tf.reshape(segments, [-1]) > 0
  # An empty input gives padding alone.
  inside = (source >= 0) & (source < n) & (offset < time)
  inside |= tf.equal(tf.size(x), 0)
  with tf.control_dependencies([_assert_bounds(used, inside, x, indices)]):
    used &= tf.not_equal(tf.size(x), 0)
  # The flattened input, and behind it the padding.
  tail = tf.shape(x)[2:]
  flat = tf.reshape(x, tf.concat([[n * time], tail], 0))
  flat = tf.concat([flat, tf.fill(tf.concat([[1], tail], 0), padding)], 0)
  cells = tf.where(used, source * time + offset, n * time)
  y = tf.reshape(tf.gather(flat, cells), tf.concat([[rows, size], tail], 0))
  y.set_shape(segments.shape.concatenate(x.shape[2:]))
  return y


def _pack_vector(
  x: tf.Tensor, separator: tf.Tensor, segments: tf.Tensor, indices: tf.Tensor
) -> tf.Tensor:
  rows = tf.shape(segments)[0]
  # Each row's places in the input, consecutive equal ones once.
  cells = tf.where(tf.not_equal(segments, 0))
  row, source = tf.cast(cells[:, 0], tf.int32), tf.gather_nd(indices, cells)
  new_row = tf.not_equal(row, tf.concat([[-1], row[:-1]], 0))
  new = new_row | tf.not_equal(source, tf.concat([[-1], source[:-1]], 0))
  row, source = tf.boolean_mask(row, new), tf.boolean_mask(source, new)
  inside = (source >= 0) & (source < tf.size(x))
  with tf.control_dependencies(
    [_assert_bounds(tf.ones_like(inside), inside, x, indices)]
  ):
    elements = tf.gather(x, source)
  if x.dtype == tf.string:
    leads = tf.boolean_mask(new_row, new)
    between = tf.where(leads, '', separator)
    parts = tf.strings.join([between, elements])
    ragged = tf.RaggedTensor.from_value_rowids(parts, row, rows)
    y = tf.strings.reduce_join(ragged, axis=1)
  elif x.dtype == tf.bool:
    counts = tf.math.unsorted_segment_sum(
      tf.cast(elements, tf.int32), row, rows
    )
    y = counts > 0
  else:
    y = tf.math.unsorted_segment_sum(elements, row, rows)
  y.set_shape(segments.shape[:1])
  return y


def _assert_bounds(
  used: tf.Tensor, inside: tf.Tensor, x: tf.Tensor, indices: tf.Tensor
) -> tf.Operation | None:
  return tf.debugging.Assert(
    tf.reduce_all(inside | ~used),
    [
      'out of bound found packing: input shape and indices_in_input:',
      tf.shape(x),
      indices,
    ],
  )
