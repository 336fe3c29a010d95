# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Choosing the next token by its logits."""

import dataclasses

import lingvo.compat as tf


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to choose.

  Attributes:
    temperature: What logits are divided by. 0: always the most probable token.
    top_k: Choose among the k most probable tokens only; 0: among all.
    top_p: Choose among the most probable tokens that together have this
      probability (after top_k and temperature); at least one of them.
      Source: Holtzman et al., "The Curious Case of Neural Text Degeneration",
      arXiv:1904.09751.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    if not 0.0 <= self.temperature < float('inf'):
      raise ValueError(
        f'temperature must be 0 (greedy) or more, got {self.temperature}.'
      )
    if self.top_k < 0:
      raise ValueError(f'top_k must be 0 (all) or more, got {self.top_k}.')
    if not 0.0 < self.top_p <= 1.0:
      raise ValueError(f'top_p must lie in (0, 1], got {self.top_p}.')


def choose(logits: tf.Tensor, uniform: tf.Tensor, how: Sampling) -> tf.Tensor:
  """Chooses a token for each row.

  Args:
    logits: A float tensor [batch, vocab_size].
    uniform: Float32 random numbers in [0, 1), [batch]. Unused when greedy.
    how: The Sampling.

  Returns:
    An int32 tensor [batch]. Of equally probable tokens lower ids come first.
  """
  logits = tf.cast(logits, tf.float32)
  if how.temperature == 0.0:
    return tf.argmax(logits, axis=-1, output_type=tf.int32)
  vocab_size = int(logits.shape[-1])
  top_k = min(how.top_k or vocab_size, vocab_size)
  logits, ids = tf.math.top_k(logits / how.temperature, top_k)
  probabilities = tf.nn.softmax(logits)
  if how.top_p < 1.0:
    before = tf.cumsum(probabilities, axis=-1, exclusive=True)
    probabilities = tf.where_v2(before < how.top_p, probabilities, 0.0)
  # The first token at which the sum exceeds a random share of the whole.
  sums = tf.cumsum(probabilities, axis=-1)
  below = sums <= uniform[:, tf.newaxis] * sums[:, -1:]
  place = tf.reduce_sum(tf.cast(below, tf.int32), axis=-1)
  place = tf.minimum(place, top_k - 1)
  return tf.gather(ids, place, batch_dims=1)
