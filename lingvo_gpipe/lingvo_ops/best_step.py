# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's BestStep: the best global step in a metric's history."""

from __future__ import annotations

import re
from collections.abc import Callable

import tensorflow as tf

_EVERYTHING = 2**62


# No AutoGraph: its conversion of the loops takes longer than all the rest.
@tf.autograph.experimental.do_not_convert
def best_step(
  hist_file: str,
  tol: float = 0.0,
  minimize: bool = True,
  metric: str = '',
  name: str | None = None,
) -> tf.Tensor:
  """Reads a history and finds its best and its last step, in every run.

  The records are taken in the order of their steps; of several with one step
  the first counts. A record becomes the best if it improves on the best so far
  by more than `tol`.

  Args:
    hist_file: a text file of lines 'step score'; or, if 'events.out.tfevents'
      is in it, a pattern of TensorFlow event files.
    tol: the least improvement, in the metric's unit; not negative.
    minimize: whether smaller is better.
    metric: the tag to read from event files.
    name: the op's name.

  Returns:
    An int64 vector [best step, last step]; [0, 0] without any record.

  Raises:
    ValueError: `tol` is negative.
    tf.errors.InvalidArgumentError: a line is not 'step score'; when the op
      runs.
  """
  if tol < 0:
    raise ValueError(f'best_step: tol={tol} must not be negative.')
  with tf.name_scope(name or 'BestStep'):
    if not hist_file:
      return tf.zeros([2], tf.int64)
    if 'events.out.tfevents' in hist_file:
      steps, scores = _read_events(hist_file, metric)
    else:
      steps, scores = _read_text(hist_file)
    order = tf.argsort(steps, stable=True)
    steps, scores = tf.gather(steps, order), tf.gather(scores, order)
    first = tf.not_equal(steps, tf.concat([steps[:1] - 1, steps[:-1]], 0))
    steps = tf.boolean_mask(steps, first)
    scores = tf.boolean_mask(scores, first)
    return _find_best(steps, scores if minimize else -scores, tol)


def _find_best(steps: tf.Tensor, scores: tf.Tensor, tol: float) -> tf.Tensor:
  """[best step, last step]; smaller scores are better."""

  def update(
    state: tuple[tf.Tensor, tf.Tensor], record: tuple[tf.Tensor, tf.Tensor]
  ) -> tuple[tf.Tensor, tf.Tensor]:
    (best, best_score), (step, score) = state, record
    # Step 0 is never kept as the best: Lingvo's op takes 0 for "none yet".
    better = tf.equal(best, 0) | (score + tol < best_score)
    return (
      tf.where(better, step, best),
      tf.where(better, score, best_score),
    )

  none = (tf.constant(0, tf.int64), tf.constant(0.0))
  best, _ = tf.foldl(update, (steps, scores), none)
  last = tf.reduce_max(tf.concat([[0], steps], 0))
  return tf.stack([best, last])


def _read_text(path: str) -> tuple[tf.Tensor, tf.Tensor]:
  """Steps and scores of a text file; none if it is not there."""
  literal = re.sub(r'([\\*?\[])', r'\\\1', path)
  lines = _records(tf.data.TextLineDataset, literal)
  lines = tf.boolean_mask(lines, tf.not_equal(lines, ''))
  fields = tf.strings.split(lines, ' ')
  well_formed = tf.equal(fields.row_lengths(), 2)
  malformed = tf.boolean_mask(lines, ~well_formed)
  message = f'best_step: lines of {path} that are not "step score":'
  with tf.control_dependencies(
    [tf.debugging.Assert(tf.reduce_all(well_formed), [message, malformed])]
  ):
    fields = tf.reshape(tf.identity(fields.values), [-1, 2])
  return (
    tf.strings.to_number(fields[:, 0], tf.int64),
    tf.strings.to_number(fields[:, 1], tf.float32),
  )


def _read_events(pattern: str, metric: str) -> tuple[tf.Tensor, tf.Tensor]:
  """Steps and scores of the metric in the event files that match."""
  step, summary = _fields(
    _records(tf.data.TFRecordDataset, pattern),
    'Event',
    [('step', tf.int64), ('summary', tf.string)],
  )
  # An event that is not a summary lacks this field, so '' here, which is a
  # summary without values.
  (values,) = _fields(
    tf.strings.reduce_join(summary.to_tensor(), axis=1),
    'Summary',
    [('value', tf.string)],
  )
  tag, score = _fields(
    values.values,
    'Summary.Value',
    [('tag', tf.string), ('simple_value', tf.float32)],
  )
  steps = tf.gather(tf.reduce_sum(step, 1), values.value_rowids())
  wanted = tf.equal(tf.strings.reduce_join(tag.to_tensor(), axis=1), metric)
  return (
    tf.boolean_mask(steps, wanted),
    tf.boolean_mask(tf.reduce_sum(score, 1), wanted),
  )


def _records(
  read: Callable[[tf.Tensor], tf.data.Dataset], pattern: str
) -> tf.Tensor:
  """All records of the files that match when the op runs, by their names.

  What is half written at a file's end is left out.
  """

  def of_files(pattern: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(tf.io.matching_files(pattern))

  records = (
    tf.data.Dataset.from_tensors(pattern)
    .flat_map(of_files)
    .flat_map(lambda file: read(file).ignore_errors())
  )
  # A batch is not empty: a record goes before them, and is taken away again.
  first = tf.data.Dataset.from_tensors('')
  return first.concatenate(records).batch(_EVERYTHING).get_single_element()[1:]


def _fields(
  messages: tf.Tensor, kind: str, fields: list[tuple[str, tf.DType]]
) -> list[tf.RaggedTensor]:
  """Fields of serialised messages: for each one [message, (occurrence)]."""
  # The op wants at least one message: an empty one goes along.
  sizes, values = tf.io.decode_proto(
    tf.concat([messages, ['']], 0),
    f'tensorflow.{kind}',
    [name for name, _ in fields],
    [dtype for _, dtype in fields],
  )
  return [
    tf.RaggedTensor.from_tensor(value[:-1], sizes[:-1, i])
    for i, value in enumerate(values)
  ]
