# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's RandomPermutationSequence and CachedCall, which have a state.

Lingvo's ops keep it in the kernel. So does a one-shot iterator: it starts
afresh with each session, needs no global variables initializer, is in no
checkpoint, and runs on any worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_ENDLESS = 2**62
# Eager mode: TensorFlow keeps one kernel for equal ops with equal attributes,
# so equal calls go on with one sequence there.
_EAGER_ITERATORS: dict[Any, Any] = {}


def random_permutation_sequence(
  num: int = 1,
  batch: int = 1,
  repeat: bool = False,
  seed: int = 0,
  name: str | None = None,
) -> tf.Tensor:
  """Samples 0 .. num - 1 without replacement, `batch` at a time.

  Each epoch is a new permutation of all the numbers. With `repeat` a batch
  continues into the next epoch. Without it there is one epoch, whose last batch
  may be smaller.

  Args:
    num: how many numbers.
    batch: the numbers given out by each run of the op.
    repeat: whether to go on after the first epoch.
    seed: 0 for sequences that differ each time; another for a sequence that
      depends on it alone, in each session anew. (It is not the sequence that
      Lingvo's own op has for that seed.)
    name: the op's name.

  Returns:
    An int32 vector of up to `batch` numbers.

  Raises:
    ValueError: `batch` is not positive, or `num` is negative, or 0 with
      `repeat`.
    tf.errors.OutOfRangeError: when the op runs after the last epoch.
  """
  if num < (1 if repeat else 0) or batch < 1:
    raise ValueError(
      f'random_permutation_sequence: num={num}, batch={batch}, '
      f'repeat={repeat}: num must be at least 0, or 1 with repeat, and batch '
      f'at least 1.'
    )

  @tf.autograph.experimental.do_not_convert
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
  f: Callable[[], Any],
  T: Sequence[tf.DType],
  name: str | None = None,
) -> list[tf.Tensor]:
  """Calls `f` the first time the op runs, and gives its result every time.

  Args:
    f: a concrete function without arguments.
    T: its outputs' types.
    name: the op's name.

  Returns:
    Its outputs, as a flat list.

  Raises:
    ValueError: `f` has outputs of other types than `T`.
  """

  @tf.autograph.experimental.do_not_convert
  def call(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
    outputs = tuple(tf.nest.flatten(f(), expand_composites=True))
    types = [output.dtype for output in outputs]
    if types != [tf.as_dtype(t) for t in T]:
      raise ValueError(f'cached_call: T={list(T)}, but f returns {types}.')
    return outputs

  @tf.autograph.experimental.do_not_convert
  def repeat(*outputs: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(outputs).repeat()

  with tf.name_scope(name or 'CachedCall'):
    results = tf.data.Dataset.from_tensors(0).map(call).flat_map(repeat)
    return list(_next_element(results, (cached_call, f)))


def _next_element(dataset: tf.data.Dataset, key: Any) -> Any:
  """The next element each time the op runs; eagerly of the first of a key."""
  if not tf.executing_eagerly():
    return tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
  if key not in _EAGER_ITERATORS:
    _EAGER_ITERATORS[key] = iter(dataset)
  return _EAGER_ITERATORS[key].get_next()
