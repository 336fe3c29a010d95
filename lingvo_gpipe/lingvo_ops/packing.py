# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's PackSequences and PackSingleSequence: which example goes where.

The packers are loops over the examples, as greedy packing is; every step of
them looks at all rows at once.
"""

from __future__ import annotations

import collections
from typing import Any

import tensorflow as tf

PackedSequences = collections.namedtuple(
  'PackedSequences',
  [
    'src_segment_ids',
    'src_segment_pos',
    'src_indices_in_input',
    'tgt_segment_ids',
    'tgt_segment_pos',
    'tgt_indices_in_input',
  ],
)
PackedSequence = collections.namedtuple(
  'PackedSequence', ['segment_ids', 'indices_in_input']
)

_NOWHERE = -1
_FULL = tf.int32.max


@tf.autograph.experimental.do_not_convert
def pack_sequences(
  src_actual_seq_len: Any,
  tgt_actual_seq_len: Any,
  packed_batch_size: int,
  packed_src_seq_len: int,
  packed_tgt_seq_len: int,
  seed: int = 0,
  name: str | None = None,
) -> PackedSequences:
  """Packs (source, target) pairs into rows.

  Each pair goes into the first row that has room for both, but the first
  `packed_batch_size` pairs go into a row each. A pair without a source or a
  target, or too long for a row, is dropped. If more rows come out than
  `packed_batch_size`, rows are dropped at random, all alike.

  Args:
    src_actual_seq_len: [N], int32: the sources' lengths.
    tgt_actual_seq_len: [N], int32: the targets' lengths.
    packed_batch_size: the number of rows; 0 for as many as come out.
    packed_src_seq_len: a row's room for sources.
    packed_tgt_seq_len: a row's room for targets.
    seed: for dropping rows; 0 for a random one. (The choice is not the one
      that Lingvo's own op makes for that seed.)
    name: the op's name.

  Returns:
    For source and target, int32 [rows, packed length] each: the segments' ids,
    from 1 on in each row, 0 where there is none; the positions in the
    segments; and the segments' places in the input.

  Raises:
    tf.errors.InvalidArgumentError: the lengths are not two vectors of one
      size; when the op is made if that is known then, or when it runs.
  """
  with tf.name_scope(name or 'PackSequences'):
    lengths = _check_lengths(src_actual_seq_len, tgt_actual_seq_len)
    room = tf.constant([packed_src_seq_len, packed_tgt_seq_len], tf.int32)
    row, start, segment = _fit_first(lengths, room, packed_batch_size)
    rows = tf.maximum(tf.reduce_max(tf.concat([[0], row], 0)) + 1, 1)
    if packed_batch_size:
      keep = _keep_rows(rows, packed_batch_size, seed)
      row = tf.where(row >= 0, tf.gather(keep, tf.maximum(row, 0)), _NOWHERE)
      rows = packed_batch_size
    outputs = []
    for column, size in enumerate([packed_src_seq_len, packed_tgt_seq_len]):
      outputs += _write(
        lengths[:, column], row, start[:, column], segment, rows, size
      )
    return PackedSequences(*outputs)


@tf.autograph.experimental.do_not_convert
def pack_single_sequence(
  input_lengths: Any,
  max_packed_length: int,
  require_sequential_order: bool = False,
  name: str | None = None,
) -> PackedSequence:
  """Packs sequences into as few rows as best fit gets them; drops none.

  Sequences are taken by falling length, and each goes into the fullest row
  that has room for it (best fit decreasing). In a row they keep their order.

  Args:
    input_lengths: [N], int32.
    max_packed_length: the rows' length.
    require_sequential_order: rows are filled one after the other instead, in
      the input's order.
    name: the op's name.

  Returns:
    segment_ids: [rows, max_packed_length], int32: from 1 on in each row, 0
      where there is none.
    indices_in_input: the same shape: the segments' places in the input, -1
      where there is none.

  Raises:
    tf.errors.InvalidArgumentError: a length is negative or greater than
      `max_packed_length`; when the op runs.
  """
  with tf.name_scope(name or 'PackSingleSequence'):
    lengths = tf.convert_to_tensor(input_lengths, tf.int32)
    fits = (lengths >= 0) & (lengths <= max_packed_length)
    message = (
      f'Input length is too long (max_packed_length {max_packed_length})'
    )
    with tf.control_dependencies(
      [tf.debugging.Assert(tf.reduce_all(fits), [message, lengths])]
    ):
      lengths = tf.ensure_shape(lengths, [None])
    if require_sequential_order:
      row = _fit_last(lengths, max_packed_length)
    else:
      row = _fit_best(lengths, max_packed_length)
    rows = tf.reduce_max(tf.concat([[-1], row], 0)) + 1
    start, segment = _places_in_rows(lengths, row)
    ids, _, indices = _write(
      lengths, row, start, segment, rows, max_packed_length
    )
    return PackedSequence(ids, tf.where(ids > 0, indices, -1))


def _check_lengths(src: Any, tgt: Any) -> tf.Tensor:
  """[N, 2] lengths."""
  src = tf.convert_to_tensor(src, tf.int32)
  tgt = tf.convert_to_tensor(tgt, tf.int32)
  if src.shape.rank not in (None, 1) or tgt.shape.rank not in (None, 1):
    raise tf.errors.InvalidArgumentError(
      None,
      None,
      f'src_actual_seq_len and tgt_actual_seq_len must be a vector each, got '
      f'shapes {src.shape} and {tgt.shape}.',
    )
  if not src.shape.is_compatible_with(tgt.shape):
    raise tf.errors.InvalidArgumentError(
      None,
      None,
      f'src_actual_seq_len must be the same shape as tgt_actual_seq_len, got '
      f'{src.shape} and {tgt.shape}.',
    )
  return tf.stack(
    [tf.ensure_shape(src, [None]), tf.ensure_shape(tgt, [None])], 1
  )


def _fit_first(
  lengths: tf.Tensor, room: tf.Tensor, spread: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """First fit, except that the first `spread` pairs get a row each.

  Args:
    lengths: [N, 2].
    room: [2], a row's.
    spread: see above.

  Returns:
    The pairs' rows [N], or -1; the positions [N, 2] in them, and the segments'
    ids [N].
  """
  n = tf.shape(lengths)[0]
  rows = tf.range(n)
  wanted = tf.reduce_all((lengths > 0) & (lengths <= room), 1)

  def place(
    i: tf.Tensor,
    count: tf.Tensor,
    used: tf.Tensor,
    segments: tf.Tensor,
    out: tuple[tf.TensorArray, ...],
  ) -> tuple[Any, ...]:
    fits = tf.reduce_all(used + lengths[i] <= room, 1)
    # As many rows as pairs: one of them has room.
    first = tf.argmax(fits, output_type=tf.int32)
    row = tf.where(count < tf.minimum(spread, n), count, first)
    taken = tf.cast(wanted[i], tf.int32)
    out = (
      out[0].write(i, tf.where(wanted[i], row, _NOWHERE)),
      out[1].write(i, used[row]),
      out[2].write(i, segments[row] + taken),
    )
    here = tf.cast(tf.equal(rows, row), tf.int32) * taken
    used += here[:, tf.newaxis] * lengths[i]
    return i + 1, count + taken, used, segments + here, out

  out = tuple(
    tf.TensorArray(tf.int32, n, element_shape=shape) for shape in ([], [2], [])
  )
  state = (0, 0, tf.zeros_like(lengths), tf.zeros([n], tf.int32), out)
  *_, out = tf.while_loop(lambda i, *_: i < n, place, state)
  row, start, segment = (array.stack() for array in out)
  return row, start, segment


def _fit_last(lengths: tf.Tensor, room: int) -> tf.Tensor:
  """The rows, filled one after the other: [N]."""

  def place(
    state: tuple[tf.Tensor, tf.Tensor], length: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    row, used = state
    opens = used + length > room
    return (
      tf.where(opens, row + 1, row),
      tf.where(opens, length, used + length),
    )

  # "Row -1 is full" opens row 0, unless the first length is 0.
  state = (tf.constant(-1), tf.constant(room))
  rows, _ = tf.scan(place, lengths, state)
  return tf.maximum(rows, 0)


def _fit_best(lengths: tf.Tensor, room: int) -> tf.Tensor:
  """The rows by best fit decreasing: [N]."""
  n = tf.size(lengths)
  rows = tf.range(n)
  order = tf.argsort(lengths, direction='DESCENDING', stable=True)

  def place(
    state: tuple[tf.Tensor, tf.Tensor, tf.Tensor], length: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    _, opened, left = state
    fits = (left >= length) & (rows < opened)
    best = tf.argmin(tf.where(fits, left, _FULL), output_type=tf.int32)
    row = tf.where(tf.reduce_any(fits), best, opened)
    left -= length * tf.cast(tf.equal(rows, row), tf.int32)
    return row, tf.maximum(opened, row + 1), left

  state = (tf.constant(0), tf.constant(0), tf.fill([n], room))
  row, _, _ = tf.scan(place, tf.gather(lengths, order), state)
  return tf.scatter_nd(order[:, tf.newaxis], row, [n])


def _places_in_rows(
  lengths: tf.Tensor, row: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Positions [N] and segment ids [N], the input's order kept in each row."""
  order = tf.argsort(row, stable=True)
  sorted_lengths, sorted_row = tf.gather(lengths, order), tf.gather(row, order)
  first = tf.searchsorted(sorted_row, sorted_row)
  end = tf.concat([[0], tf.cumsum(sorted_lengths)], 0)
  start = end[:-1] - tf.gather(end, first)
  segment = tf.range(tf.size(row)) - first + 1
  places = tf.stack([start, segment], 1)
  places = tf.scatter_nd(order[:, tf.newaxis], places, tf.shape(places))
  return places[:, 0], places[:, 1]


def _keep_rows(rows: tf.Tensor, kept: int, seed: int) -> tf.Tensor:
  """The new place of each row, or -1: `kept` of them stay, any set alike.

  Reservoir sampling: row i >= kept takes the place j, drawn from 0 .. i, if
  j < kept, and whoever was there leaves.
  """
  n = tf.maximum(rows, kept)
  late = tf.range(kept, n)
  # The raw op, because a graph-level seed would fix `tf.random.uniform`.
  uniform = tf.raw_ops.RandomUniform(
    shape=[n - kept], dtype=tf.float64, seed=seed, seed2=0
  )
  place = tf.cast(uniform * tf.cast(late + 1, tf.float64), tf.int32)
  takes = place < kept
  # The last to take a place has the greatest number.
  keeper = tf.tensor_scatter_nd_max(
    tf.range(kept),
    tf.boolean_mask(place, takes)[:, tf.newaxis],
    tf.boolean_mask(late, takes),
  )
  return tf.tensor_scatter_nd_update(
    tf.fill([n], _NOWHERE), keeper[:, tf.newaxis], tf.range(kept)
  )


def _write(
  lengths: tf.Tensor,
  row: tf.Tensor,
  start: tf.Tensor,
  segment: tf.Tensor,
  rows: int | tf.Tensor,
  size: int,
) -> list[tf.Tensor]:
  """Segment ids, positions and input indices, each [rows, size]; else 0."""
  lengths = tf.where(row >= 0, lengths, 0)
  index = tf.repeat(tf.range(tf.size(lengths)), lengths)
  ends = tf.cumsum(lengths)
  pos = tf.range(tf.size(index)) - tf.gather(ends - lengths, index)
  cells = tf.stack([tf.gather(row, index), tf.gather(start, index) + pos], 1)
  outputs = []
  for values in (tf.gather(segment, index), pos, index):
    output = tf.scatter_nd(cells, values, [rows, size])
    output.set_shape([tf.get_static_value(rows), size])
    outputs.append(output)
  return outputs
