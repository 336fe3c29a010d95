# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers built apart from all others, each kind once, and their weights."""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.engine.tensors import spec, spec_bytes

_Value = TypeVar('_Value')

# Optimizers keep float32, and gradients are summed in it at least.
_SLOT_BYTES = 4

# Whether a variable is trained, by its name within the model; None for all.
IsTrained: TypeAlias = Callable[[str], bool] | None


@dataclasses.dataclass(frozen=True)
class Training:
  """What of a model is trained, and how.

  Attributes:
    slots: float32 numbers that the optimizer keeps for each parameter.
    inputs_trained: Whether the first layer's inputs come from trained weights.
  """

  slots: int = 2
  is_trained: IsTrained = None
  inputs_trained: bool = False


@dataclasses.dataclass(frozen=True)
class Weights:
  """The weights of a layer.

  Attributes:
    variables: Specs of its variables by their names in it, which end in ':0'.
    trainable: The names of those that are trained unless they are frozen.
    theta: Specs of the layer's theta, a nest.
    names: The same nest with the names of trainable variables; '' for the rest.
  """

  variables: dict[str, tf.TensorSpec]
  trainable: frozenset[str]
  theta: Any
  names: Any

  @property
  def parameters(self) -> int:
    return sum(self.variables[n].shape.num_elements() for n in self.trainable)

  def trained(self, layer: str, is_trained: IsTrained) -> list[tf.TensorSpec]:
    """The variables that are trained, if the layer has this name."""
    return [
      self.variables[n]
      for n in self.trainable
      if is_trained is None or is_trained(f'{layer}/{n}')
    ]


def weights_of(layer: Any) -> Weights:
  with layer._SelfVariableScope():
    scope = f'{tf.get_variable_scope().name}/'

  def name_of(variable: tf.Variable) -> str:
    return str(variable.name).removeprefix(scope)

  variables = layer.vars.Flatten()
  trainable = {
    k: name_of(v) for k, v in layer.vars.FlattenItems() if v.trainable
  }
  theta = layer.theta
  return Weights(
    {name_of(v): spec(v) for v in variables},
    frozenset(trainable.values()),
    tf.nest.map_structure(spec, theta),
    theta.TransformWithKey(lambda key, _: trainable.get(key, '')),
  )


def build_weights(name: str, params: Any) -> Weights:
  with own_graph(), explained(name, params):
    layer = params.Copy().Set(name=params.name or 'layer').Instantiate()
    return weights_of(layer)


def weight_cost(name: str, weights: Weights, training: Training) -> LayerCost:
  """What a layer's weights say of its cost."""
  trained = [
    (v.shape.num_elements(), v.dtype.size)
    for v in weights.trained(name, training.is_trained)
  ]
  return LayerCost(
    name=name,
    parameters=weights.parameters,
    weight_bytes=sum(map(spec_bytes, weights.variables.values())),
    gradient_bytes=sum(n * max(size, _SLOT_BYTES) for n, size in trained),
    optimizer_bytes=training.slots * _SLOT_BYTES * sum(n for n, _ in trained),
  )


def parameter_costs(
  layers: Sequence[Any], names: Sequence[str], training: Training
) -> list[LayerCost]:
  """The cost of each layer by its trainable parameters, without any shapes.

  The forward pass counts one for each, the backward pass two, or one where the
  parameter is not trained. Bytes of activations are 0.
  """
  costs: list[LayerCost] = []
  has_backward = training.is_trained is None or training.inputs_trained
  for name, built in zip(names, _build_all(layers, names), strict=True):
    trained = sum(
      v.shape.num_elements() for v in built.trained(name, training.is_trained)
    )
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
  """Whether anything is trained in a layer outside of a pipeline."""
  [built] = _build_all([params], [params.name])
  return bool(built.trained(params.name, is_trained))


def count_parameters(params: Any) -> int:
  """How many trainable parameters layers have, without giving them memory.

  `params` are Params of a layer, or a list or tuple of them, to any depth.
  """
  layers = tf.nest.flatten([params])
  names = [layer.name or f'layer {i}' for i, layer in enumerate(layers)]
  return sum(built.parameters for built in _build_all(layers, names))


def _build_all(layers: Sequence[Any], names: Sequence[str]) -> list[Weights]:
  known: ParamsCache[Weights] = ParamsCache()
  return in_build_thread(
    lambda: [
      known.get(params, None, functools.partial(build_weights, name, params))
      for name, params in zip(names, layers, strict=True)
    ]
  )


def in_build_thread(function: Callable[[], _Value]) -> _Value:
  """Calls a function in a thread of its own, under the caller's cluster.

  Lingvo keeps book of layers, and of clusters, by thread. Layers built here
  would else be children of the layer in whose __init__ this is.
  """
  cluster = cluster_factory.Current()

  def run() -> _Value:
    # In eager mode a thread without a graph would start TensorFlow's devices,
    # with more threads than training on CPU devices wants.
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


def session_config() -> tf.tf1.ConfigProto:
  """One op at a time, as on a device of a pipeline that is busy.

  The thread that runs ops is the session's own. Where there is no GPU an op
  stays on one thread, as in training: the first session of a process decides
  that for all that come later.
  """
  config = tf.tf1.ConfigProto(
    allow_soft_placement=True,
    inter_op_parallelism_threads=1,
    intra_op_parallelism_threads=0 if gpus() else 1,
    use_per_session_threads=True,
  )
  config.gpu_options.allow_growth = True
  # As in cells, nothing is optimised: what nobody reads is computed, too.
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return config


def gpus() -> list[Any]:
  return list(tf.config.list_physical_devices('GPU'))


@contextlib.contextmanager
def explained(name: str, params: Any, call: object = None) -> Iterator[None]:
  """Turns errors inside into a ValueError that says which layer it was."""
  try:
    yield
  except Exception as error:
    problem = 'cannot be built' if call is None else f'cannot run on {call}'
    raise ValueError(
      f'Layer {name!r} ({params.cls.__name__}) {problem}, so it has no cost: '
      f'{error}'
    ) from error


class ParamsCache(Generic[_Value]):
  """Values by Params, the name left aside, and a further key.

  Text of Params as a key would take longest of all, for a thousand layers.
  """

  def __init__(self) -> None:
    self._known: dict[Hashable, list[tuple[Any, _Value]]] = {}

  def get(
    self, params: Any, key: Hashable, make: Callable[[], _Value]
  ) -> _Value:
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
  values, others = (dict(x.IterParams(), name='') for x in (a, b))
  try:
    return values == others
  except ValueError:
    # Arrays in Params have no single truth value.
    return as_text(a) == as_text(b)


def as_text(params: Any) -> str:
  """Layer Params as text, without the name."""
  return str(params.Copy().Set(name='layer').ToText())
