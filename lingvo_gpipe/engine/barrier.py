# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Separates the layers of a cell, as a cut between them would.

A tensor that two layers share has one gradient for each. Behind a barrier a
layer has a tensor of its own, whose gradient is the sum of what that layer
alone makes of it. So sums have the same terms in the same order wherever the
cuts are.

The barrier is TensorFlow's PlaceholderWithDefault: an identity, without a
copy, that no optimiser removes, as it could be fed. (Only behind a constant it
is folded away.) Before the pipeline it keeps values that are known from being
built into a copy of a cell's function. Its gradient has a barrier too.
"""

import functools
from typing import Any

import tensorflow.compat.v1 as tf

_GRADIENT = 'LingvoGpipeBarrier'
_DENSE_GRADIENT = 'LingvoGpipeDenseBarrier'


def barrier(nest: Any, *, dense: bool = False) -> Any:
  """Returns the tensors of a nest behind barriers; a None stays None.

  Args:
    nest: Tensors or None.
    dense: Whether their gradients are made dense. Sparse ones are added by
      joining them, which puts off the sum itself.
  """
  gradient = _DENSE_GRADIENT if dense else _GRADIENT
  return tf.nest.map_structure(
    functools.partial(_barrier, gradient=gradient), nest
  )


def _barrier(x: Any, gradient: str = _GRADIENT) -> Any:
  if x is None:
    return None
  x = tf.convert_to_tensor(x)
  if tf.executing_eagerly():
    return x
  with tf.get_default_graph().gradient_override_map(
    {'PlaceholderWithDefault': gradient}
  ):
    return tf.placeholder_with_default(x, x.shape)


@tf.RegisterGradient(_GRADIENT)
def _barrier_gradient(op: tf.Operation, gradient: Any) -> Any:
  del op
  if isinstance(gradient, tf.IndexedSlices):
    return tf.IndexedSlices(
      _barrier(gradient.values), gradient.indices, gradient.dense_shape
    )
  return _barrier(gradient)


@tf.RegisterGradient(_DENSE_GRADIENT)
def _dense_barrier_gradient(op: tf.Operation, gradient: Any) -> tf.Tensor:
  del op
  return _barrier(tf.convert_to_tensor(gradient), _DENSE_GRADIENT)
