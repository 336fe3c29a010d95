# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of a `packing.RowLayout`, in TensorFlow."""

import lingvo.compat as tf
import numpy as np


def places_of_rows(layout, index, present, row_length):
  """Returns where the tokens of some rows are.

  Args:
    layout: Has the attributes of a `packing.RowLayout`, as tensors.
    index: int64 [batch], the rows.
    present: bool [batch], False for a row that is to be empty.
    row_length: The length of all rows.

  Returns:
    Three int64 tensors [batch, row_length]:
      where in the stream a token is, -1 where the row is empty;
      which of the row's segments it belongs to, 1, 2, ..., or 0 for none;
      its place within the segment, 0 where the row is empty.
  """
  # Segments of the rows, then tokens of the segments.
  segments = tf.ragged.range(
    tf.gather(layout.row_splits, index), tf.gather(layout.row_splits, index + 1)
  )
  starts = tf.gather(layout.starts, segments.flat_values)
  lengths = tf.gather(layout.lengths, segments.flat_values)
  numbers = tf.ragged.range(segments.row_lengths()).flat_values + 1
  shape = [index.shape[0], row_length]

  def rows(tokens, empty):
    """[batch, row_length] of a value for each token of each segment."""
    by_segment = tf.RaggedTensor.from_row_lengths(
      tokens, lengths, validate=False
    )
    by_row = segments.with_flat_values(by_segment).merge_dims(1, 2)
    dense = by_row.to_tensor(default_value=np.int64(empty), shape=shape)
    return tf.where_v2(present[:, tf.newaxis], dense, np.int64(empty))

  positions = tf.ragged.range(lengths).flat_values
  return (
    rows(tf.repeat(starts, lengths) + positions, empty=-1),
    rows(tf.repeat(numbers, lengths), empty=0),
    rows(positions, empty=0),
  )
