# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where in the training a mini-batch is, as the tasks' contexts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf


@dataclasses.dataclass
class Clock:
  """Where in the training the mini-batch is.

  Attributes:
    step: The global step, an int64 scalar.
    seed: The step seed around the pipeline, an int64 scalar.
    sizes: The micro-batches' sizes: ints, or int64 scalars.
    batch: The mini-batch's size, an int64 scalar.
  """

  step: tf.Tensor
  seed: tf.Tensor
  sizes: Sequence[Any]
  batch: tf.Tensor

  def contexts(self) -> list[tf.Tensor]:
    """Each micro-batch's context, an int64 vector; see `Context`.

    All depend on the global step: TensorFlow makes a copy of a function for
    each constant among its arguments.
    """
    zero = tf.zeros([], tf.int64)
    base = tf.stack([self.step, self.seed, zero, zero, self.batch])
    count = len(self.sizes)
    numbers, zeros = (
      tf.range(count, dtype=tf.int64),
      tf.zeros([count], tf.int64),
    )
    if all(isinstance(size, int) for size in self.sizes):
      sizes = tf.constant(self.sizes, tf.int64)
    else:
      sizes = tf.stack([tf.cast(size, tf.int64) for size in self.sizes])
    offsets = tf.stack([zeros, zeros, numbers, sizes, zeros], axis=1)
    return tf.unstack(base + offsets, num=count)

  def share(self, micro_batch: int) -> tf.Tensor:
    """A micro-batch's share of the mini-batch's examples, float32."""
    size = tf.cast(self.sizes[micro_batch], tf.float32)
    return size / tf.cast(self.batch, tf.float32)
