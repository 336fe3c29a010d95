# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of one layer that another layer uses: added to its theta.

There is one variable, on its owner's device. Its value is sent to the user's
device once a step, however many micro-batches use it there. The user's
gradients are summed apart from the owner's, even where both are in one cell,
so the order of summation does not depend on the cut:

```
  variable --+--> weight of the owner's cell
             '--> copy on the user's device --> weight of the user's cell
```
"""

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
)

# Where a layer's theta is in that of a layer around it.
_Keys = tuple[Any, ...]

_SEQUENCES = (FeatureExtractionLayer, builder_layers.SequentialLayer)


def tie(
  root: base_layer.BaseLayer,
  theta: Any,
  device_of: Callable[[str], str] | None = None,
) -> Any:
  """Adds tied weights to theta, as `weights_of` of the layers says.

  Use it to run layers that use the weights of others without a pipeline:

  ```
    net.FProp(tied_weights.tie(net, net.theta), x)
  ```

  Args:
    root: A layer that the owners and the users are in: a sequence, or a
      pipeline.
    theta: Its weights.
    device_of: Maps a child of `root` to its device. Each use is then a separate
      copy of the weights on the device of the child that the user is in. If
      None, the owner's weights themselves are in the user's theta.

  Returns:
    The theta, a copy if anything is tied.

  Raises:
    ValueError: The owner is unknown, or has no such weights.
  """
  layers = list(_layers_in(root))
  users = [
    (name, keys, layer)
    for name, keys, layer in layers
    if named_values.declared(layer.params).weights_of
  ]
  if not users:
    return theta
  places = {name: keys for name, keys, _ in layers}
  uses = _Uses(theta, device_of)
  tied = tf.nest.map_structure(lambda weight: weight, theta)
  for name, keys, layer in users:
    declared = named_values.declared(layer.params)
    for local, reference in declared.weights_of.items():
      owner, part = named_values.find_owner(reference, list(places))
      if owner is None:
        raise ValueError(
          f'{name} uses the weights of {reference!r}, but the layers are '
          f'{list(places)}.'
        )
      source = (*places[owner], *filter(None, part.split('.')))
      try:
        value = uses.of(source, keys[0])
      except (KeyError, TypeError) as error:
        raise ValueError(
          f'{name} uses the weights {reference!r}, but {owner} has only '
          f'{[key for key, _ in _at(theta, places[owner]).FlattenItems()]}.'
        ) from error
      _at(tied, keys)[local] = value
  return tied


class _Uses:
  """Hands out weights, once for each use."""

  def __init__(self, theta: Any, device_of: Callable[[str], str] | None):
    self._theta = theta
    self._device_of = device_of
    self._rests: dict[int, tf.Tensor] = {}

  def of(self, source: _Keys, user: str) -> Any:
    """Weights for one more use, in a child of the root."""
    weights = _at(self._theta, source)
    if self._device_of is None:
      return weights
    owner_device = self._device_of(source[0])
    user_device = self._device_of(user)

    def copy(weight: Any) -> tf.Tensor:
      with on_device(owner_device):
        value = self._rests.get(id(weight))
        if value is None:
          value = _read(weight, owner_device)
        # A chain with a link for each use, so that no gradient is a sum of
        # more than two terms: the layers' order decides, not TensorFlow.
        mine, self._rests[id(weight)] = barrier(value), barrier(value)
      with on_device(user_device):
        return tf.identity(mine)

    return tf.nest.map_structure(copy, weights)


def _read(weight: Any, device: str) -> tf.Tensor:
  """The value of a weight, on its own device."""
  value = tf.convert_to_tensor(before_copies(weight, device))
  if compiles_graph():
    place_read(value, device)
  return value


def _layers_in(
  root: base_layer.BaseLayer,
) -> Iterator[tuple[str, _Keys, base_layer.BaseLayer]]:
  """The layers in a sequence or a pipeline: name, place in theta, layer.

  The names are those of `named_values.layers_of_cell`.
  """
  if isinstance(root, _SEQUENCES):
    yield from _layers(root, '', ())
    return
  for key, child in root.children.items():
    name = '' if isinstance(child, FeatureExtractionLayer) else key
    yield from _layers(child, name, (key,))


def _layers(
  layer: base_layer.BaseLayer, name: str, keys: _Keys
) -> Iterator[tuple[str, _Keys, base_layer.BaseLayer]]:
  if not isinstance(layer, _SEQUENCES):
    yield name, keys, layer
    return
  before = f'{name}/' if name else ''
  for key, child in layer.children.items():
    if not isinstance(child, list):
      yield from _layers(child, before + key, (*keys, key))
      continue
    for i, repetition in enumerate(child):
      inside = before + repetition.params.name
      yield from _layers(repetition, inside, (*keys, key, i))


def _at(theta: Any, keys: _Keys) -> Any:
  for key in keys:
    theta = theta[key]
  return theta
