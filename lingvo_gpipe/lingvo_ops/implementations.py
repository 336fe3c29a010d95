# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's custom ops that its layers, programs and in-memory inputs use.

Arguments and results are those of Lingvo's ops of the same names, but for the
numbers that a seed gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = [
  'assert_same_dim0',
  'assert_shape_match',
  'best_step',
  'cached_call',
  'random_permutation_sequence',
]

_UNKNOWN = -1
_ENDLESS = 2**62
# Eager mode: TensorFlow keeps one kernel for equal ops with equal attributes,
# so equal calls go on with one sequence there.
_EAGER_ITERATORS: dict[Any, Any] = {}

# AutoGraph's conversion takes longer than all the rest.
_as_it_is = tf.autograph.experimental.do_not_convert


def assert_shape_match(
  x: Any, y: Any, msg: str = '', name: str | None = None
) -> tf.Operation | None:
  """Asserts that two int32 vectors are equal; -1 equals everything.

  Layers assert on nearly every call, so what static shapes settle adds a no-op.
  """
  with tf.name_scope(name or 'AssertShapeMatch'):
    x = tf.convert_to_tensor(x, tf.int32)
    y = tf.convert_to_tensor(y, tf.int32)
    match = _static_match(x, y)
    if match:
      return _nothing()
    if match is None:
      # Cut to one length, or the comparison would broadcast or fail.
      n = tf.minimum(tf.size(x), tf.size(y))
      a, b = x[:n], y[:n]
      dims = tf.equal(a, b) | tf.equal(a, _UNKNOWN) | tf.equal(b, _UNKNOWN)
      match = tf.reduce_all(dims) & tf.equal(tf.size(x), tf.size(y))
    return tf.debugging.Assert(
      match, [f'{msg} mismatch shape: x and y:', x, y], summarize=10
    )


def assert_same_dim0(
  x: Sequence[Any], msg: str = '', name: str | None = None
) -> tf.Operation | None:
  """Asserts that no tensor is a scalar and all have one dimension 0."""
  with tf.name_scope(name or 'AssertSameDim0'):
    x = [tf.convert_to_tensor(t) for t in x]
    sizes = {t.shape[0] if t.shape.rank else None for t in x}
    if len(sizes) <= 1 and None not in sizes:
      return _nothing()
    # A scalar's shape has no first element, so -1 stands for it.
    dims = tf.concat([tf.concat([tf.shape(t), [-1]], 0)[:1] for t in x], 0)
    same = tf.reduce_all(tf.equal(dims, dims[0])) & tf.not_equal(dims[0], -1)
    message = f'{msg} an input is a scalar (-1) or has a different dim0:'
    return tf.debugging.Assert(same, [message, dims], summarize=10)


def _static_match(x: tf.Tensor, y: tf.Tensor) -> bool | None:
  xs = tf.get_static_value(x, partial=True)
  ys = tf.get_static_value(y, partial=True)
  if xs is None or ys is None:
    return None
  if len(xs) != len(ys):
    return False
  pairs = [p for p in zip(xs, ys, strict=True) if _UNKNOWN not in p]
  if any(None in pair for pair in pairs):
    return None
  return all(a == b for a, b in pairs)


def _nothing() -> tf.Operation | None:
  return None if tf.executing_eagerly() else tf.no_op()


@_as_it_is
def best_step(
  hist_file: str,
  tol: float = 0.0,
  minimize: bool = True,
  metric: str = '',
  name: str | None = None,
) -> tf.Tensor:
  """The best and the last step in a file of lines 'step score'.

  Records are taken in the order of their steps, of several with one step the
  first. One becomes the best if it is better by more than `tol`. The file is
  read anew in each run. Returns int64 [best step, last step]; [0, 0] without
  any record. NotImplementedError for one of TensorFlow's event files.
  """
  del metric  # Of event files.
  if 'events.out.tfevents' in hist_file:
    raise NotImplementedError(
      f'best_step: {hist_file} is read on hosts with glibc 2.38 or later only. '
      'Set tfevent_file=False in the MetricHistory.'
    )
  with tf.name_scope(name or 'BestStep'):
    steps, scores = _read_history(hist_file)
    order = tf.argsort(steps, stable=True)
    steps, scores = tf.gather(steps, order), tf.gather(scores, order)
    first = tf.not_equal(steps, tf.concat([steps[:1] - 1, steps[:-1]], 0))
    steps = tf.boolean_mask(steps, first)
    scores = tf.boolean_mask(scores if minimize else -scores, first)

    def update(state: Any, record: Any) -> Any:
      (best, best_score), (step, score) = state, record
      # Step 0 is never kept as the best: Lingvo's op takes 0 for "none yet".
      better = tf.equal(best, 0) | (score + tol < best_score)
      return tf.where(better, step, best), tf.where(better, score, best_score)

    none = (tf.constant(0, tf.int64), tf.constant(0.0))
    best, _ = tf.foldl(update, (steps, scores), none)
    return tf.stack([best, tf.reduce_max(tf.concat([[0], steps], 0))])


def _read_history(path: str) -> tuple[tf.Tensor, tf.Tensor]:
  # Inside of a data set, or the graph optimiser would look for it only once.
  contents = (
    tf.data.Dataset.from_tensors(re.sub(r'([\\*?\[])', r'\\\1', path))
    .flat_map(
      lambda x: tf.data.Dataset.from_tensor_slices(tf.io.matching_files(x))
    )
    .map(tf.io.read_file)
  )
  nothing = tf.data.Dataset.from_tensors('')
  texts = nothing.concatenate(contents).batch(2).get_single_element()
  text = tf.strings.reduce_join(texts)
  lines = tf.strings.split(text, '\n')
  lines = tf.boolean_mask(lines, tf.not_equal(lines, ''))
  fields = tf.strings.split(lines, ' ').to_tensor(shape=[None, 2])
  return (
    tf.strings.to_number(fields[:, 0], tf.int64),
    tf.strings.to_number(fields[:, 1], tf.float32),
  )


def random_permutation_sequence(
  num: int = 1,
  batch: int = 1,
  repeat: bool = False,
  seed: int = 0,
  name: str | None = None,
) -> tf.Tensor:
  """Samples 0 .. num - 1 without replacement, `batch` at a time.

  Each epoch is a new permutation of all the numbers. With `repeat` a batch
  continues into the next epoch; without it there is one epoch, whose last batch
  may be smaller. Sequences of a seed are alike, in each session anew; those of
  the seed 0 differ.
  """
  if num < (1 if repeat else 0) or batch < 1:
    raise ValueError(
      f'random_permutation_sequence: num must be at least 0, or 1 with repeat, '
      f'and batch at least 1; got {num=}, {batch=}, {repeat=}.'
    )

  @_as_it_is
  def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
    if seed:
      seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
    else:
      # The raw op, because a graph-level seed would fix `tf.random.uniform`.
      seeds = tf.raw_ops.RandomUniformInt(
        shape=[2], minval=tf.int64.min, maxval=tf.int64.max
      )
    ids = tf.random.experimental.stateless_shuffle(tf.range(num), seeds)
    return tf.data.Dataset.from_tensor_slices(ids)

  with tf.name_scope(name or 'RandomPermutationSequence'):
    epochs = tf.data.Dataset.range(_ENDLESS if repeat else 1)
    batches = epochs.flat_map(permutation).batch(batch, drop_remainder=repeat)
    key = (random_permutation_sequence, num, batch, repeat, seed)
    return _next_element(batches, key)


def cached_call(
  f: Callable[[], Any], T: Sequence[tf.DType], name: str | None = None
) -> list[tf.Tensor]:
  """Calls `f`, a concrete function, the first time; gives its result always."""

  @_as_it_is
  def call(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tuple(tf.nest.flatten(f(), expand_composites=True))

  @_as_it_is
  def repeat(*outputs: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(outputs).repeat()

  del T  # Those of what `f` returns.
  with tf.name_scope(name or 'CachedCall'):
    results = tf.data.Dataset.from_tensors(0).map(call).flat_map(repeat)
    return list(_next_element(results, (cached_call, f)))


def _next_element(dataset: tf.data.Dataset, key: Any) -> Any:
  """The next element each time the op runs; eagerly of the first of a key.

  A one-shot iterator starts afresh with each session, needs no initializer, is
  in no checkpoint, and runs on any worker.
  """
  if not tf.executing_eagerly():
    return tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
  if key not in _EAGER_ITERATORS:
    _EAGER_ITERATORS[key] = iter(dataset)
  return _EAGER_ITERATORS[key].get_next()
