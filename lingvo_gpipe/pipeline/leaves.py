# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The leaves of a nest: their names, and what is not a tensor made one.

A leaf is named by its way through the nest, as in `inputs[1].paddings` or
`targets.labels`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np

_NUMBERS = (bool, int, float, complex, str, bytes, np.generic)


def names(nest: Any, name: str) -> list[str]:
  """A name for each leaf, in the order of `tf.nest.flatten`.

  Args:
    nest: Any nest.
    name: That of the nest itself; '' if its keys are to stand alone.
  """
  if isinstance(nest, Mapping):
    dot = '.' if name else ''
    parts = [(nest[key], f'{name}{dot}{key}') for key in sorted(nest)]
  elif isinstance(nest, tuple) and hasattr(nest, '_fields'):
    parts = [
      (part, f'{name}.{field}')
      for part, field in zip(nest, nest._fields, strict=True)
    ]
  elif isinstance(nest, list | tuple):
    parts = [(part, f'{name}[{i}]') for i, part in enumerate(nest)]
  elif tf.nest.is_nested(nest):
    return [f'{name}#{i}' for i in range(len(tf.nest.flatten(nest)))]
  else:
    return [name]
  return [found for part in parts for found in names(*part)]


def matches(name: str, entry: str) -> bool:
  """Whether a leaf is the one that `entry` names, or lies in that nest."""
  return name == entry or name.startswith((f'{entry}.', f'{entry}['))


def to_tensors(nest: Any, name: str, what: str) -> Any:
  """Returns the nest with tensors for its leaves; a None stays None.

  numpy arrays, variables and Python's numbers become tensors, of the dtype that
  TensorFlow gives them. So does a list that has only numbers in it, as a whole.

  Args:
    nest: Any nest.
    name: Its name, for errors.
    what: Who is given it, for errors.

  Raises:
    ValueError: A leaf cannot be a tensor: it is a RaggedTensor, say.
  """
  nest = _join_numbers(nest)
  flat = [
    None if leaf is None else _to_tensor(leaf, f'{what}: {leaf_name}')
    for leaf, leaf_name in zip(
      tf.nest.flatten(nest), names(nest, name), strict=True
    )
  ]
  return tf.nest.pack_sequence_as(nest, flat)


def _join_numbers(nest: Any) -> Any:
  """The nest with an array in place of each list of numbers."""
  if isinstance(nest, list) and nest:
    if all(isinstance(leaf, _NUMBERS) for leaf in tf.nest.flatten(nest)):
      return _Numbers(nest)
    return [_join_numbers(part) for part in nest]
  if isinstance(nest, Mapping):
    joined = copy.copy(nest)
    for key in nest:
      joined[key] = _join_numbers(nest[key])
    return joined
  if type(nest) is tuple:
    return tuple(_join_numbers(part) for part in nest)
  return nest


class _Numbers:
  """A list that is one leaf."""

  def __init__(self, value: Sequence[Any]):
    self.value = value


def _to_tensor(leaf: Any, name: str) -> tf.Tensor:
  if isinstance(leaf, _Numbers):
    leaf = leaf.value
  kind = type(leaf).__name__
  if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
    raise ValueError(
      f'{name} is a {kind}; a pipeline takes only dense tensors. Give it the '
      'dense tensor, or one dense tensor for each component.'
    )
  try:
    return tf.convert_to_tensor(leaf)
  except (TypeError, ValueError, RuntimeError) as error:
    raise ValueError(
      f'{name} is a {kind} that cannot be made a tensor: {error}'
    ) from error
