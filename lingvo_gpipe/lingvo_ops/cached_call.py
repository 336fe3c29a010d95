# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's CachedCall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from lingvo_gpipe.lingvo_ops import op_state


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
    return list(op_state.next_element(results, (cached_call, f)))
