# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of layers."""

import inspect
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

from lingvo_gpipe.engine.tensors import barrier
from lingvo_gpipe.pipeline import param_values, seeds


def to_tuple(x: Any) -> tuple[Any, ...]:
  """Arguments for the next layer: what a layer returned, as a tuple."""
  if isinstance(x, list | tuple) and not hasattr(x, '_fields'):
    return tuple(x)
  return (x,)


def descendants(layer: base_layer.BaseLayer) -> list[base_layer.BaseLayer]:
  """The layer and all layers in it."""
  layers = [layer]
  for child in py_utils.Flatten(layer.children):
    layers += descendants(child)
  return layers


class PlacedKey(str):
  """A child's key that sorts by its position, after all keys without one.

  Lingvo sorts by key when it sums over all variables, such as for the norm that
  gradients are clipped by. Sorted by name, layers would be added cell by cell,
  so the last bits of the sum would depend on the cut. Sorted by position they
  do not.
  """

  place: int

  def __new__(cls, name: str, place: int) -> 'PlacedKey':
    key = super().__new__(cls, name)
    key.place = place
    return key

  def __getnewargs__(self) -> tuple[Any, ...]:
    return str(self), self.place  # What copies are made of.

  def __lt__(self, other: str) -> bool:
    return isinstance(other, PlacedKey) and self.place < other.place

  def __gt__(self, other: str) -> bool:
    return not isinstance(other, PlacedKey) or self.place > other.place


class FeatureExtractionLayer(base_layer.BaseLayer):
  """Layers in sequence, which can also return intermediate activations.

  The last `num_act_inputs` arguments are activations of earlier cells. It
  returns the last layer's outputs, then those activations, then the ones
  fetched here:

  ```
    args --> sub[0] --> sub[1] --> ... --------------> outputs
    activations from before -------------------------> + activations
    `act_fetch_layers` of sub ------------------------> + fetched
  ```
  """

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define(
      'variable_name_prefix', '', 'Prefix of the name of each layer in sub.'
    )
    p.Define('sub', [], 'Params of the layers, in order; each has a name.')
    p.Define(
      'num_act_inputs',
      0,
      'How many of the last arguments are activations of earlier cells, which '
      'are passed on.',
    )
    p.Define(
      'num_act_outputs',
      0,
      'How many activations are returned after the outputs: num_act_inputs, '
      'and one for each of act_fetch_layers.',
    )
    p.Define(
      'act_fetch_layers',
      [],
      'Names of FetchLayers in sub whose activation is returned.',
    )
    return p

  def __init__(self, params: Any):
    param_values.check_layers(params.sub, f'{params.name}.sub')
    super().__init__(params)
    p = self.params
    fetched = p.act_fetch_layers or []
    _CheckActivations(p, fetched)
    self._seq = []
    for place, sub in enumerate(p.sub):
      if not sub.name:
        raise ValueError(
          f'{p.name}.sub has a {sub.cls.__name__} without a name; the names of '
          'its variables need one.'
        )
      name = p.variable_name_prefix + sub.name
      key = PlacedKey(_Key(name), place)
      if key in self.children:
        raise ValueError(
          f'{p.name}.sub has two layers named {name!r}; names must differ.'
        )
      self.CreateChild(key, sub.Copy().Set(name=name))
      self._seq.append((key, self.children[key]))
    self._CheckFetched(fetched)

  def _CheckFetched(self, fetched: Sequence[str]) -> None:
    p = self.params
    missing = [name for name in fetched if name not in self.children]
    if missing:
      raise ValueError(
        f'{p.name}.act_fetch_layers names {missing}, but sub has '
        f'{[name for name, _ in self._seq]}.'
      )
    for name in fetched:
      cls = type(self.children[name])
      if not hasattr(cls, 'activation'):
        raise ValueError(
          f'{p.name}.act_fetch_layers names {name!r}, a {cls.__name__}; only a '
          'FetchLayer has an activation to return. Put one after it.'
        )

  def FProp(self, theta: Any, *args: Any) -> Any:
    """Runs the layers.

    Args:
      theta: A NestedMap of weights.
      *args: The first layer's arguments, then `num_act_inputs` activations.

    Returns:
      What the last layer returns, in a tuple with activations if there are any.
    """
    p = self.params
    if len(args) <= p.num_act_inputs:
      raise ValueError(
        f'{p.name} got {len(args)} arguments; it needs more than '
        f'num_act_inputs, which is {p.num_act_inputs}.'
      )
    split = len(args) - p.num_act_inputs
    outputs, activations = args[:split], list(args[split:])
    for name, layer in self._seq:
      layer_args = to_tuple(outputs)
      _CheckCall(layer, layer_args)
      if not seeds.in_cell():
        outputs = layer.FProp(theta[name], *layer_args)
        continue
      with seeds.in_layer(layer.path), seeds.op_scope(layer.params.name):
        outputs = layer.FProp(theta[name], *layer_args)
      outputs = barrier(outputs)
    for name in p.act_fetch_layers or []:
      activations.append(to_tuple(self.children[name].activation)[0])
    if activations:
      outputs = to_tuple(outputs) + tuple(activations)
    return outputs

  @property
  def sequence(self) -> list[base_layer.BaseLayer]:
    """The layers, in order."""
    return [layer for _, layer in self._seq]

  @property
  def leaves(self) -> list[base_layer.BaseLayer]:
    """The layers, in order, with those of FeatureExtractionLayers in place."""
    found: list[base_layer.BaseLayer] = []
    for layer in self.sequence:
      inside = isinstance(layer, FeatureExtractionLayer)
      found += layer.leaves if inside else [layer]
    return found

  @classmethod
  def FPropMeta(cls, p: Any, *args: Any) -> py_utils.NestedMap:
    """FLOPs and output shapes, for Lingvo code that asks for them.

    The pipeline itself never calls it.
    """
    split = len(args) - p.num_act_inputs
    shapes, activations = args[:split], tuple(args[split:])
    flops = 0
    fetched = {}
    for sub in p.sub:
      meta = sub.cls.FPropMeta(sub, *shapes)
      flops += meta.flops
      shapes = meta.out_shapes
      if sub.name in (p.act_fetch_layers or []):
        fetched[sub.name] = shapes[0]
    activations += tuple(fetched[name] for name in p.act_fetch_layers or [])
    return py_utils.NestedMap(
      flops=flops, out_shapes=tuple(shapes) + activations
    )


def _Key(name: str) -> str:
  """Under which name theta has a layer: not all names can be keys there."""
  return name if name[0].isalpha() or name[0] == '_' else f'layer_{name}'


def _CheckActivations(p: Any, fetched: Sequence[str]) -> None:
  for name in ('num_act_inputs', 'num_act_outputs'):
    param_values.whole_number(p, name, 0)
  if fetched:
    param_values.names(p, 'act_fetch_layers')
  expected = p.num_act_inputs + len(fetched)
  if p.num_act_outputs != expected:
    raise ValueError(
      f'{p.name}.num_act_outputs is {p.num_act_outputs}; with num_act_inputs '
      f'{p.num_act_inputs} and {len(fetched)} act_fetch_layers it must be '
      f'{expected}.'
    )


def _CheckCall(layer: base_layer.BaseLayer, args: Sequence[Any]) -> None:
  """Raises ValueError if the layer cannot be called with these arguments."""
  try:
    inspect.signature(layer.FProp).bind(None, *args)
  except TypeError as error:
    raise ValueError(
      f'Layer {layer.path} ({type(layer).__name__}) cannot take what comes '
      f'before it, {describe(args)}: {error}.'
    ) from error


def describe(nest: Any) -> str:
  """A nest of tensors as text: shapes and dtypes."""

  def leaf(x: Any) -> str:
    if x is None:
      return 'None'
    shape = 'unknown' if x.shape.rank is None else x.shape.as_list()
    return f'{x.dtype.name}{shape}'

  return str(tf.nest.map_structure(leaf, nest)).replace("'", '')
