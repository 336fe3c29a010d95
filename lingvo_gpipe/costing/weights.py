# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What layers' weights need, in numbers and in bytes."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf

from lingvo_gpipe.costing.building import (
  ParamsCache,
  explained,
  in_build_thread,
  own_graph,
)
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.engine.tensors import spec

# Optimizers keep float32, and gradients are summed in it at least.
_SLOT_BYTES = 4


# Whether a variable is trained, by its name within the model; None for all.
IsTrained: TypeAlias = Callable[[str], bool] | None


@dataclasses.dataclass(frozen=True)
class LayerVariable:
  """A variable of a layer.

  Attributes:
    name: Its name within the layer, which ends in ':0'.
    count: How many numbers it has.
    number_bytes: Bytes of one of them.
    trainable: Whether it is trained unless it is frozen.
  """

  name: str
  count: int
  number_bytes: int
  trainable: bool


@dataclasses.dataclass(frozen=True)
class Weights:
  """The weights of a layer.

  Attributes:
    variables: Its variables.
    theta: Specs of the layer's theta, a nest.
    names: The same nest with the names of the variables within the layer; ''
      for what is none, or is not trainable.
  """

  variables: tuple[LayerVariable, ...]
  theta: Any
  names: Any

  @property
  def parameters(self) -> int:
    """How many numbers are trainable."""
    return sum(v.count for v in self.variables if v.trainable)

  @property
  def weight_bytes(self) -> int:
    """Bytes of all variables, also of those that are not trained."""
    return sum(v.count * v.number_bytes for v in self.variables)

  def trained(self, layer: str, is_trained: IsTrained) -> list[LayerVariable]:
    """The variables that are trained.

    Args:
      layer: The layer's name within the model.
      is_trained: See there.
    """
    return [
      v
      for v in self.variables
      if v.trainable and (is_trained is None or is_trained(f'{layer}/{v.name}'))
    ]


def _gradient_bytes(trained: Iterable[LayerVariable]) -> int:
  """Bytes of the sums of gradients of variables."""
  return sum(v.count * max(v.number_bytes, _SLOT_BYTES) for v in trained)


def _optimizer_bytes(trained: Iterable[LayerVariable], slots: int) -> int:
  """Bytes of an optimizer that keeps `slots` numbers for each parameter."""
  return slots * _SLOT_BYTES * sum(v.count for v in trained)


def weights_of(layer: Any) -> Weights:
  """The weights of a layer that has been built."""
  with layer._SelfVariableScope():
    scope = f'{tf.get_variable_scope().name}/'

  def name_of(variable: tf.Variable) -> str:
    return str(variable.name).removeprefix(scope)

  known = dict(layer.vars.FlattenItems())
  theta = layer.theta
  return Weights(
    variables=tuple(
      LayerVariable(
        name_of(v),
        math.prod(v.shape.as_list()),
        v.dtype.size,
        v.trainable,
      )
      for v in {id(v): v for v in layer.vars.Flatten()}.values()
    ),
    theta=tf.nest.map_structure(spec, theta),
    names=theta.TransformWithKey(
      lambda key, _: (
        name_of(known[key]) if key in known and known[key].trainable else ''
      )
    ),
  )


def build_weights(name: str, params: Any) -> Weights:
  """Builds a layer in a graph of its own, for its weights."""
  with own_graph(), explained(name, params):
    layer = params.Copy().Set(name=params.name or 'layer').Instantiate()
    return weights_of(layer)


def weight_cost(
  name: str, weights: Weights, slots: int, is_trained: IsTrained
) -> LayerCost:
  """The cost of a layer as far as its weights say it."""
  trained = weights.trained(name, is_trained)
  return LayerCost(
    name=name,
    parameters=weights.parameters,
    weight_bytes=weights.weight_bytes,
    gradient_bytes=_gradient_bytes(trained),
    optimizer_bytes=_optimizer_bytes(trained, slots),
  )


def parameter_costs(
  layers: Sequence[Any],
  names: Sequence[str],
  *,
  optimizer_slots: int = 2,
  is_trained: IsTrained = None,
  inputs_trained: bool = False,
) -> list[LayerCost]:
  """The cost of each layer by its trainable parameters, without any shapes.

  The forward pass counts one for each, the backward pass two, or one where the
  parameter is not trained. Bytes of activations are not known, and 0.

  Args:
    layers: Params of the layers, in order, as a flat list.
    names: The layers' names within the model.
    optimizer_slots: float32 numbers that the optimizer keeps for each
      parameter.
    is_trained: See there.
    inputs_trained: Whether the first layer's inputs come from weights that are
      trained.
  """
  costs: list[LayerCost] = []
  has_backward = is_trained is None or inputs_trained
  for name, built in zip(names, _build_all(layers, names), strict=True):
    trained = sum(v.count for v in built.trained(name, is_trained))
    has_backward = has_backward or trained > 0
    costs.append(
      dataclasses.replace(
        weight_cost(name, built, optimizer_slots, is_trained),
        forward=built.parameters,
        backward=(built.parameters + trained) if has_backward else 0,
        has_backward=has_backward,
      )
    )
  return costs


def has_trained(params: Any, is_trained: IsTrained) -> bool:
  """Whether anything is trained in a layer that stands alone in a model."""
  [built] = _build_all([params], [params.name])
  return bool(built.trained(params.name, is_trained))


def count_parameters(params: Any) -> int:
  """How many parameters layers have, without giving them memory.

  What is not trainable, such as moving averages, does not count. Layers that
  differ in nothing but their name are built once.

  Args:
    params: Params of a layer, or a list or tuple of them, to any depth.
  """
  layers = tf.nest.flatten([params])
  names = [layer.name or f'layer {i}' for i, layer in enumerate(layers)]
  return sum(built.parameters for built in _build_all(layers, names))


def _build_all(layers: Sequence[Any], names: Sequence[str]) -> list[Weights]:
  """The weights of each layer; those that are alike are built once."""

  def build() -> list[Weights]:
    known: ParamsCache[Weights] = ParamsCache()
    all_weights = []
    for name, params in zip(names, layers, strict=True):
      weights = known.get(params)
      if weights is None:
        weights = build_weights(name, params)
        known.add(params, None, weights)
      all_weights.append(weights)
    return all_weights

  return in_build_thread(build)
