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
