# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of layers."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, builder_layers, py_utils

from lingvo_gpipe.engine.tensors import barrier
from lingvo_gpipe.pipeline import param_values, seeds


def to_tuple(x: Any) -> tuple[Any, ...]:
  if isinstance(x, list | tuple) and not hasattr(x, '_fields'):
    return tuple(x)
  return (x,)


def descendants(layer: base_layer.BaseLayer) -> list[base_layer.BaseLayer]:
  layers = [layer]
  for child in py_utils.Flatten(layer.children):
    layers += descendants(child)
  return layers


class PlacedKey(str):
  """A child's key that sorts by its position, after all keys without one.

  Lingvo sorts by key when it sums over all variables, as for clipping. Sorted
  by name, layers would be added cell by cell: bits would depend on the cut.
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
    self._fetched = p.act_fetch_layers or []
    _CheckActivations(p, self._fetched)
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
    for name in self._fetched:
      if not hasattr(type(self.children.get(name)), 'activation'):
        raise ValueError(
          f'{p.name}.act_fetch_layers names {name!r}, but only a FetchLayer in '
          f'sub, {[str(key) for key, _ in self._seq]}, has an activation to '
          'return.'
        )

  def FProp(self, theta: Any, *args: Any) -> Any:
    """Runs the layers; activations that are returned are in a tuple, last."""
    p = self.params
    if len(args) <= p.num_act_inputs:
      raise ValueError(
        f'{p.name} got {len(args)} arguments; it needs more than '
        f'num_act_inputs, which is {p.num_act_inputs}.'
      )
    split = len(args) - p.num_act_inputs
    outputs, activations = args[:split], args[split:]
    for name, layer in self._seq:
      layer_args = to_tuple(outputs)
      _CheckCall(layer, layer_args)
      if seeds.current_scope() is None:
        outputs = layer.FProp(theta[name], *layer_args)
        continue
      with seeds.in_layer(layer.path), seeds.op_scope(layer.params.name):
        outputs = layer.FProp(theta[name], *layer_args)
      outputs = barrier(outputs)
    for name in self._fetched:
      activations += to_tuple(self.children[name].activation)[:1]
    return to_tuple(outputs) + activations if activations else outputs

  @property
  def sequence(self) -> list[base_layer.BaseLayer]:
    return [layer for _, layer in self._seq]

  @property
  def leaves(self) -> list[base_layer.BaseLayer]:
    """The layers, in order, with those of FeatureExtractionLayers in place."""
    found: list[base_layer.BaseLayer] = []
    for layer in self.sequence:
      inside = isinstance(layer, FeatureExtractionLayer)
      found += layer.leaves if inside else [layer]
    return found


def _Key(name: str) -> str:
  return name if name[:1].isalpha() or name[:1] == '_' else f'layer_{name}'


def _CheckActivations(p: Any, fetched: Sequence[str]) -> None:
  param_values.whole_number(p, 'num_act_inputs', 0)
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
  try:
    inspect.signature(layer.FProp).bind(None, *args)
  except TypeError as error:
    raise ValueError(
      f'Layer {layer.path} ({type(layer).__name__}) cannot take what comes '
      f'before it, {describe(args)}: {error}.'
    ) from error


def describe(nest: Any) -> str:

  def leaf(x: Any) -> str:
    if x is None:
      return 'None'
    shape = 'unknown' if x.shape.rank is None else x.shape.as_list()
    return f'{x.dtype.name}{shape}'

  return str(tf.nest.map_structure(leaf, nest)).replace("'", '')


_SEQUENCES = (FeatureExtractionLayer, builder_layers.SequentialLayer)


def layers_in(
  params: Any, name: str, keys: tuple[Any, ...] = ()
) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
  """The layers in nested sequences; what is no sequence is itself the only one.

  Yields the name of its variables, where it is in theta, and its Params.
  """
  if not issubclass(params.cls, _SEQUENCES):
    yield name, keys, params
    return
  before = f'{name}/' if name else ''
  runs, prefix = [(before, keys)], ''
  is_cell = issubclass(params.cls, FeatureExtractionLayer)
  if is_cell:
    prefix = params.variable_name_prefix
  elif params.repeat > 1:
    # The names and keys that SequentialLayer gives its repetitions.
    runs = [
      (f'{before}{i:03d}/', (*keys, 'rep', i)) for i in range(params.repeat)
    ]
  for before, around in runs:
    for sub in params.sub:
      own = f'{prefix}{sub.name}'
      key = _Key(own) if is_cell else own
      yield from layers_in(sub, before + own, (*around, key))
