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

  def base(self) -> tf.Tensor:
    """The part of the context that all micro-batches share."""
    zero = tf.zeros([], tf.int64)
    return tf.stack([self.step, self.seed, zero, zero, self.batch])

  def offset(self, micro_batch: int) -> tf.Tensor:
    """What one micro-batch adds to it."""
    size = self.sizes[micro_batch]
    if not tf.is_tensor(size):
      return tf.constant([0, 0, micro_batch, size, 0], tf.int64)
    zero = tf.zeros([], tf.int64)
    number = tf.constant(micro_batch, tf.int64)
    return tf.stack([zero, zero, number, size, zero])

  def share(self, micro_batch: int) -> tf.Tensor:
    """A micro-batch's share of the mini-batch's examples, float32."""
    size = tf.cast(self.sizes[micro_batch], tf.float32)
    return size / tf.cast(self.batch, tf.float32)
