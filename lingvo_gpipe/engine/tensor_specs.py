# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small questions about tensors."""

import tensorflow.compat.v1 as tf


def spec(tensor: tf.Tensor) -> tf.TensorSpec:
  """A tensor's static shape and dtype."""
  return tf.TensorSpec(tensor.shape, tensor.dtype.base_dtype)


def differentiable(tensor: tf.Tensor | tf.TensorSpec) -> bool:
  """Whether tensors of this dtype can have a gradient."""
  dtype = tensor.dtype.base_dtype
  return dtype.is_floating or dtype.is_complex


def sum_dtype(dtype: tf.DType) -> tf.DType:
  """What gradients are summed in: float32 for half precision, to lose no bits.

  M of them would, and their sum may be too large.
  """
  return tf.float32 if dtype in (tf.bfloat16, tf.float16) else dtype
