# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of one layer that another layer uses: added to its theta.

There is one variable, on its owner's device, whose value is sent to the user's
device once a step. The user's gradients are summed apart from the owner's, even
in one cell, so the order of summation does not depend on the cut:

```
  variable --+--> weight of the owner's cell
             '--> copy on the user's device --> weight of the user's cell
```
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, builder_layers

from lingvo_gpipe.engine.tensors import (
  barrier,
  before_copies,
  compiles_graph,
  on_device,
  place_read,
)
from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  layers_in,
)


def tie(
  root: base_layer.BaseLayer,
  theta: Any,
  device_of: Callable[[str], str] | None = None,
) -> Any:
  """Adds tied weights to theta, as `weights_of` of the layers says.

  Without a pipeline: `net.FProp(tied_weights.tie(net, net.theta), x)`.

  Args:
    root: A sequence, or a pipeline, that the owners and the users are in.
    theta: Its weights; returned is a copy if anything is tied.
    device_of: Maps a child of `root` to its device. Each use is then a copy of
      the owner's weights on the device of the user's child.
  """
  layers = list(_layers_of(root))
  places = {name: keys for name, keys, _ in layers}
  rests: dict[int, tf.Tensor] = {}
  tied = tf.nest.map_structure(lambda weight: weight, theta)
  has_uses = False
  for name, keys, params in layers:
    for local, reference in named_values.declared(params).weights_of.items():
      has_uses = True
      owner, part = named_values.find_owner(reference, list(places))
      if owner is None:
        raise ValueError(
          f'{name} uses the weights of {reference!r}, but the layers are '
          f'{list(places)}.'
        )
      source = (*places[owner], *filter(None, part.split('.')))
      try:
        value = _at(theta, source)
      except (KeyError, TypeError) as error:
        raise ValueError(
          f'{name} uses the weights {reference!r}, but {owner} has only '
          f'{[key for key, _ in _at(theta, places[owner]).FlattenItems()]}.'
        ) from error
      if device_of is not None:
        devices = device_of(source[0]), device_of(keys[0])
        copy = functools.partial(_copy, rests, *devices)
        value = tf.nest.map_structure(copy, value)
      _at(tied, keys)[local] = value
  return tied if has_uses else theta


def _copy(
  rests: dict[int, tf.Tensor], owner_device: str, device: str, weight: Any
) -> tf.Tensor:
  with on_device(owner_device):
    value = rests.get(id(weight))
    if value is None:
      value = tf.convert_to_tensor(before_copies(weight, owner_device))
      if compiles_graph():
        place_read(value, owner_device)
    # A chain with a link for each use, so that no gradient is a sum of more
    # than two terms: the layers' order decides, not TensorFlow.
    mine, rests[id(weight)] = barrier(value), barrier(value)
  with on_device(device):
    return tf.identity(mine)


def _layers_of(
  root: base_layer.BaseLayer,
) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
  sequences = FeatureExtractionLayer, builder_layers.SequentialLayer
  if isinstance(root, sequences):
    yield from layers_in(root.params, '')
    return
  for key, child in root.children.items():
    name = '' if isinstance(child, FeatureExtractionLayer) else key
    yield from layers_in(child.params, name, (key,))


def _at(theta: Any, keys: tuple[Any, ...]) -> Any:
  return functools.reduce(lambda nest, key: nest[key], keys, theta)
