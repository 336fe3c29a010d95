# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Iterators whose state lives in the op: no variable, no initializer.

Lingvo's input ops keep their state in the kernel. A one-shot iterator does so
too: it starts afresh with each session, needs no global variables
initializer, is in no checkpoint, and runs on any worker.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Eager mode: TensorFlow keeps one kernel for equal ops with equal attributes,
# so equal calls go on with one sequence there.
_EAGER_ITERATORS: dict[Any, Any] = {}


def next_element(dataset: tf.data.Dataset, key: Any) -> Any:
  """The dataset's next element, each time the op runs.

  Args:
    dataset: must not capture tensors of the current graph.
    key: in eager mode, calls with equal keys share one iterator; the first
      one's dataset is the one that is iterated.

  Returns:
    Tensors of the dataset's element structure.
  """
  if not tf.executing_eagerly():
    return tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
  if key not in _EAGER_ITERATORS:
    _EAGER_ITERATORS[key] = iter(dataset)
  return _EAGER_ITERATORS[key].get_next()
