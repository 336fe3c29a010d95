# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels as the decoders want them: token ids, target ids and paddings."""

from __future__ import annotations

import collections
from typing import Any

import tensorflow as tf

Labels = collections.namedtuple(
  'Labels', ['token_ids', 'target_ids', 'paddings']
)


def make_labels(
  ids: tf.RaggedTensor,
  max_ids: int,
  maxlen: int,
  sos_id: int,
  eos_id: int,
  append_eos: bool,
  pad_to_maxlen: bool = True,
) -> Labels:
  """Lays out each sequence of ids in a row.

  Args:
    ids: [batch, (length)], int32.
    max_ids: longer sequences are cut to this many ids, `maxlen` or
      `maxlen` - 1; the latter leaves room for the end.
    maxlen: the rows' greatest length.
    sos_id: put before the first id of `token_ids`.
    eos_id: fills each row after its last id.
    append_eos: whether the first of these counts as a label.
    pad_to_maxlen: False for rows no longer than the longest sequence and its
      end.

  Returns:
    token_ids: [batch, length], int32: the start, then the ids.
    target_ids: the same, moved ahead by one.
    paddings: [batch, length], float32: 1 where a target is none.
  """
  ids = ids[:, :max_ids]
  lengths = tf.cast(ids.row_lengths(), tf.int32)
  size = maxlen
  if not pad_to_maxlen:
    size = tf.minimum(maxlen, tf.reduce_max(tf.concat([[-1], lengths], 0)) + 1)
  batch = ids.nrows()
  target_ids = ids.to_tensor(eos_id, shape=[None, maxlen])
  start = tf.fill([batch, 1], tf.constant(sos_id, tf.int32))
  token_ids = tf.concat([start, target_ids[:, :-1]], 1)
  labels = lengths + 1 if append_eos else lengths
  paddings = 1.0 - tf.sequence_mask(labels, maxlen, tf.float32)
  return Labels(token_ids[:, :size], target_ids[:, :size], paddings[:, :size])


def check_matrix_and_lengths(
  token_ids: Any, seq_lengths: Any
) -> tf.RaggedTensor:
  """The first `seq_lengths[i]` ids of each row of an int32 matrix.

  Args:
    token_ids: [batch, time], int32.
    seq_lengths: [batch], int32; a negative one counts as 0.

  Returns:
    A ragged [batch, (length)] tensor.

  Raises:
    ValueError: the shapes are known, and are not these.
    tf.errors.InvalidArgumentError: there is not one length a row, or one is
      greater than the row; when the op runs.
  """
  token_ids = tf.convert_to_tensor(token_ids, tf.int32)
  seq_lengths = tf.convert_to_tensor(seq_lengths, tf.int32)
  if token_ids.shape.rank not in (None, 2):
    raise ValueError(f'token_ids must be a matrix, but get {token_ids.shape}.')
  if seq_lengths.shape.rank not in (None, 1):
    raise ValueError(
      f'seq_lengths must be a vector, but get {seq_lengths.shape}.'
    )
  if not token_ids.shape[:1].is_compatible_with(seq_lengths.shape):
    raise ValueError(
      f'token_ids and seq_lengths do not match: shapes {token_ids.shape} and '
      f'{seq_lengths.shape}.'
    )
  shape = tf.shape(token_ids)
  lengths = tf.maximum(seq_lengths, 0)
  message = 'token_ids and seq_lengths do not match:'
  with tf.control_dependencies(
    [
      tf.debugging.Assert(
        tf.equal(tf.size(lengths), shape[0])
        & tf.reduce_all(lengths <= shape[1]),
        [message, shape, lengths],
      )
    ]
  ):
    return tf.RaggedTensor.from_tensor(
      tf.ensure_shape(token_ids, [None, None]), lengths
    )
