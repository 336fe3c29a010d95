# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's RandomPermutationSequence."""

from __future__ import annotations

import tensorflow as tf

from lingvo_gpipe.lingvo_ops import op_state

_ENDLESS = 2**62


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
    return op_state.next_element(batches, key)
