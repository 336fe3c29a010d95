# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small questions about tensors, and nests of them."""

from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import handle_data_util


def spec(tensor: tf.Tensor) -> tf.TensorSpec:
  """A tensor's static shape and dtype."""
  return tf.TensorSpec(tensor.shape, tensor.dtype.base_dtype)


def value_dtype(tensor: tf.Tensor | tf.TensorSpec) -> tf.DType:
  """A tensor's dtype; for the handle of a variable, that of the variable."""
  dtype = tensor.dtype.base_dtype
  if dtype == tf.resource and isinstance(tensor, tf.Tensor):
    known = handle_data_util.get_resource_handle_data(tensor)
    if known is not None and known.is_set and len(known.shape_and_type) == 1:
      return tf.as_dtype(known.shape_and_type[0].dtype)
  return dtype


def differentiable(tensor: tf.Tensor | tf.TensorSpec) -> bool:
  """Whether tensors of this dtype can have a gradient."""
  dtype = value_dtype(tensor)
  return dtype.is_floating or dtype.is_complex


def sum_dtype(dtype: tf.DType) -> tf.DType:
  """What gradients are summed in: float32 for half precision, to lose no bits.

  M of them would, and their sum may be too large.
  """
  return tf.float32 if dtype in (tf.bfloat16, tf.float16) else dtype


def leaves(nest: Any) -> list[tf.TensorSpec]:
  """The specs, or tensors, of a nest, in order, without None."""
  return [leaf for leaf in tf.nest.flatten(nest) if leaf is not None]


def num_bytes(nest: Any) -> int:
  """Bytes of all tensors of a nest of specs."""
  return sum(spec_bytes(spec) for spec in leaves(nest))


def spec_bytes(spec: tf.TensorSpec | tf.Tensor) -> int:
  """Bytes of one tensor; 0 where the shape is not known, or has no bytes."""
  dtype = spec.dtype.base_dtype
  if not spec.shape.is_fully_defined() or dtype in (tf.variant, tf.resource):
    return 0
  return int(spec.shape.num_elements()) * dtype.size


def key(nest: Any) -> Any:
  """Equal for nests of the same structure, shapes and dtypes."""
  flat = tf.nest.flatten(nest)
  structure = tf.nest.pack_sequence_as(nest, range(len(flat)))
  return repr(structure), tuple(
    None if leaf is None else (leaf.dtype.name, tuple(leaf.shape))
    for leaf in flat
  )
