# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Nests of tensor specs."""

from typing import Any

import tensorflow.compat.v1 as tf


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


def check_known(nest: Any, what: str, remedy: str) -> None:
  """Raises ValueError if a tensor's size is not known.

  Args:
    nest: Specs.
    what: What they are of, for the error.
    remedy: What to do about it, for the error.
  """
  for leaf in tf.nest.flatten(nest):
    if leaf is None:
      continue
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'{what} must be a nest of tf.TensorSpec; it has {leaf!r}. {remedy}'
      )
    if not leaf.shape.is_fully_defined():
      raise ValueError(
        f'{what} has the shape {leaf.shape}, with unknown dimensions; costs '
        f'need all of them. {remedy}'
      )
