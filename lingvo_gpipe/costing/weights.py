# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer's weights need, in numbers and in bytes."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import lingvo.compat as tf

from lingvo_gpipe.engine.tensor_specs import spec

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


def gradient_bytes(trained: Iterable[LayerVariable]) -> int:
  """Bytes of the sums of gradients of variables."""
  return sum(v.count * max(v.number_bytes, _SLOT_BYTES) for v in trained)


def optimizer_bytes(trained: Iterable[LayerVariable], slots: int) -> int:
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
      for v in unique(layer.vars.Flatten())
    ),
    theta=tf.nest.map_structure(spec, theta),
    names=theta.TransformWithKey(
      lambda key, _: (
        name_of(known[key]) if key in known and known[key].trainable else ''
      )
    ),
  )


def unique(variables: Iterable[tf.Variable]) -> list[tf.Variable]:
  """Variables in order, each once."""
  return list({id(v): v for v in variables}.values())
