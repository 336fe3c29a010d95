# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers built apart from all others, each kind once, and their weights."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.engine.tensors import spec

_Result = TypeVar('_Result')
_Value = TypeVar('_Value')

# Optimizers keep float32, and gradients are summed in it at least.
_SLOT_BYTES = 4


# Whether a variable is trained, by its name within the model; None for all.
IsTrained: TypeAlias = Callable[[str], bool] | None


@dataclasses.dataclass(frozen=True)
class Training:
  """What of a model is trained, and by what.

  Attributes:
    slots: float32 numbers that the optimizer keeps for each parameter.
    is_trained: See there.
    inputs_trained: Whether the first layer's inputs come from weights that are
      trained.
  """

  slots: int = 2
  is_trained: IsTrained = None
  inputs_trained: bool = False


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


def weight_cost(name: str, weights: Weights, training: Training) -> LayerCost:
  """The cost of a layer as far as its weights say it."""
  trained = weights.trained(name, training.is_trained)
  slots = training.slots * sum(v.count for v in trained)
  return LayerCost(
    name=name,
    parameters=weights.parameters,
    weight_bytes=weights.weight_bytes,
    gradient_bytes=sum(
      v.count * max(v.number_bytes, _SLOT_BYTES) for v in trained
    ),
    optimizer_bytes=slots * _SLOT_BYTES,
  )


def parameter_costs(
  layers: Sequence[Any], names: Sequence[str], training: Training
) -> list[LayerCost]:
  """The cost of each layer by its trainable parameters, without any shapes.

  The forward pass counts one for each, the backward pass two, or one where the
  parameter is not trained. Bytes of activations are not known, and 0.

  Args:
    layers: Params of the layers, in order, as a flat list.
    names: The layers' names within the model.
    training: What is trained.
  """
  costs: list[LayerCost] = []
  has_backward = training.is_trained is None or training.inputs_trained
  for name, built in zip(names, _build_all(layers, names), strict=True):
    trained = sum(v.count for v in built.trained(name, training.is_trained))
    has_backward = has_backward or trained > 0
    costs.append(
      dataclasses.replace(
        weight_cost(name, built, training),
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
    return [
      known.get(params, None, functools.partial(build_weights, name, params))
      for name, params in zip(names, layers, strict=True)
    ]

  return in_build_thread(build)


# -- Layers apart from others.


def in_build_thread(function: Callable[[], _Result]) -> _Result:
  """Calls a function in a thread of its own, under the caller's cluster.

  Within another layer's __init__, Lingvo would take the layers that are built
  for that layer's children. It keeps book of them, and of clusters, by thread.

  In eager mode a thread without a graph would start TensorFlow's devices, with
  more threads than training on CPU devices wants.
  """
  cluster = cluster_factory.Current()

  def run() -> _Result:
    with tf.Graph().as_default(), cluster:
      return function()

  with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
    return thread.submit(run).result()


@contextlib.contextmanager
def own_graph() -> Iterator[tf.Graph]:
  """A graph to build layers in, as for training; the cluster is kept."""
  cluster = cluster_factory.Current().params.Copy().Set(do_eval=False)
  with tf.Graph().as_default() as graph, cluster.Instantiate():
    py_utils.GetOrCreateGlobalStepVar()
    yield graph


class LayerError(ValueError):
  """A layer that cannot be costed; the message names it."""


@contextlib.contextmanager
def explained(name: str, params: Any, call: object = None) -> Iterator[None]:
  """Errors inside say which layer it was, and what it was given.

  Args:
    name: The layer's name, as the user knows it.
    params: Its Params.
    call: What it is called with, which can be text; None while it is only
      built.
  """
  try:
    yield
  except LayerError:
    raise
  except Exception as error:
    problem = 'cannot be built'
    if call is not None:
      problem = f'cannot run on {call}'
    raise LayerError(
      f'Layer {name!r} ({params.cls.__name__}) {problem}, so it has no cost: '
      f'{error}'
    ) from error


class ParamsCache(Generic[_Value]):
  """A dictionary by Params, the name left aside, and a further key.

  Params are compared, not turned into text, which would take longer than all
  else for a model of a thousand layers.
  """

  def __init__(self) -> None:
    self._known: dict[Hashable, list[tuple[Any, _Value]]] = {}

  def get(
    self, params: Any, key: Hashable, make: Callable[[], _Value]
  ) -> _Value:
    """What has been made for the same Params and key, or is made now."""
    known = self._known.setdefault((params.cls, key), [])
    for other, value in known:
      if equal_but_name(other, params):
        return value
    value = make()
    known.append((params, value))
    return value


def equal_but_name(a: Any, b: Any) -> bool:
  """Whether layer Params are equal, their own names left aside."""
  if a is b:
    return True
  values, others = dict(a.IterParams()), dict(b.IterParams())
  if values.keys() != others.keys():
    return False
  try:
    return all(
      value == others[name] for name, value in values.items() if name != 'name'
    )
  except ValueError:
    # Arrays in Params have no single truth value.
    return as_text(a) == as_text(b)


def as_text(params: Any) -> str:
  """Layer Params as text, without the name."""
  return str(params.Copy().Set(name='layer').ToText())
