# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One layer alone in a graph, forward and backward, and what it does there.

```
  inputs -----> FProp -----> outputs
                 | | residuals  |
  gradients <-- ... <------- d outputs
```
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf
from lingvo.core import py_utils
from tensorflow.python.ops import handle_data_util

from lingvo_gpipe.costing import flops, weights
from lingvo_gpipe.costing.static_values import (
  CALLS,
  LOOPS,
  Frame,
  called,
  trip_count,
)
from lingvo_gpipe.costing.weights import explained, own_graph
from lingvo_gpipe.engine import repairs
from lingvo_gpipe.engine.tensors import (
  differentiable,
  flat_tensors,
  signature,
  spec,
  spec_bytes,
)
from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import describe

# Ops whose output is their input's memory.
_SAME_MEMORY = frozenset(
  (
    *('CheckNumerics', 'EnsureShape', 'ExpandDims', 'Identity', 'IdentityN'),
    *('PlaceholderWithDefault', 'PreventGradient', 'Reshape', 'Squeeze'),
    *('Snapshot', 'StopGradient'),
  )
)


@dataclasses.dataclass(frozen=True)
class LayerCall:
  """What a layer is called with.

  Attributes:
    args: Specs of its arguments: a tuple of nests.
    taken: Specs of the values that it takes, by name.
    tied: Specs of other layers' weights that it uses, by their name in its
      theta.
    tied_names: The same with these weights' names within the model; see
      `Weights.names`.
  """

  args: tuple[Any, ...]
  taken: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tied: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tied_names: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def inputs(self) -> Any:
    """All data that it is given."""
    return self.args, dict(self.taken)

  def __str__(self) -> str:
    args = self.args[0] if len(self.args) == 1 else self.args
    text = describe(args)
    return f'{text} and {describe(dict(self.taken))}' if self.taken else text

  def key(self) -> Any:
    """Equal for calls with tensors of the same shapes and dtypes."""
    return signature((self.inputs, dict(self.tied)))


# Makes data of a spec and of the name of the argument that it is for.
Fill: TypeAlias = Callable[[tf.TensorSpec, str], tf.Tensor]


class LayerTrace:
  """A layer in the current graph, forward and backward.

  Attributes:
    layer: The layer.
    weights: Its weights.
    results: The tensors that it returns, then those of values that it puts.
    losses: Its auxiliary losses.
    outputs: Specs of what it returns, a nest.
    put: Specs of the values that it puts, by name.
  """

  results: list[tf.Tensor]
  losses: list[tf.Tensor]
  outputs: Any
  put: Mapping[str, Any]

  def __init__(self, params: Any, call: LayerCall, fill: Fill | None = None):
    """Builds the layer, and what it is called with.

    Args:
      params: Its Params.
      call: What it is called with.
      fill: Makes data of a spec and of the name of the argument that it is for;
        None for placeholders, of the layer's own weights too.
    """
    self._call = call
    self.layer = params.Copy().Set(name=params.name or 'layer').Instantiate()
    self.weights = weights.weights_of(self.layer)
    make = fill or (lambda spec, _: tf.placeholder(spec.dtype, spec.shape))
    names = list(inspect.signature(self.layer.FProp).parameters)[1:]
    names += [''] * len(call.args)
    self._args = [
      _filled(nest, name, make)
      for nest, name in zip(call.args, names, strict=False)
    ]
    self._taken = {
      name: _filled(nest, name, make) for name, nest in call.taken.items()
    }
    if fill is None:
      self._theta = _filled(self.weights.theta, '', make)
    else:
      theta = self.layer.theta
      self._theta = tf.nest.map_structure(tf.convert_to_tensor, theta)
    self._theta.update(_filled(dict(call.tied), 'tied', make))
    self.given_ops = set(tf.get_default_graph().get_operations())

  @property
  def inputs(self) -> list[tf.Tensor]:
    """The arguments' tensors, then those of values taken."""
    return flat_tensors((self._args, self._taken))

  def run(self) -> list[Any]:
    """Calls the layer; returns the tensors and ops that are all it does."""
    declared = named_values.declared(self.layer.params)
    with (
      named_values.scope(self._taken) as values,
      py_utils.AuxLossContext(reentrant=True) as aux,
      tf.get_default_graph().gradient_override_map(repairs.GRADIENTS),
    ):
      outputs = self.layer.FProp(self._theta, *self._args)
      put = {name: values.rest(name) for name in declared.puts}
    returned = tf.nest.map_structure(
      lambda x: None if x is None else tf.convert_to_tensor(x), (outputs, put)
    )
    self.results = flat_tensors(returned)
    self.losses = list(aux.aux_losses)
    self.outputs, self.put = tf.nest.map_structure(
      lambda x: None if x is None else spec(x), returned
    )
    effects = [a.GetValue() for a in self.layer.accumulators.Flatten()]
    effects += tf.get_collection(py_utils.BATCH_NORM_UPDATES)
    for summary in tf.get_collection(tf.GraphKeys.SUMMARIES):
      effects += summary.op.inputs
    return [*self.results, *self.losses, *effects]

  def gradients(
    self,
    given: Sequence[bool],
    input_gradients: bool,
    trained: Sequence[bool],
    fill: Callable[[tf.Tensor], tf.Tensor],
  ) -> tuple[list[Any], list[Any]]:
    """Differentiates the layer, after `run`.

    Args:
      given: For each of `results`, whether it is given a gradient.
      input_gradients: Whether the arguments' gradients are wanted.
      trained: For each weight, whether its gradient is wanted.
      fill: Makes the gradient that a result or a loss is given.

    Returns:
      Gradients of the arguments and values taken, then of the weights: None
      where there is none or it is not wanted.
    """
    ys = [*itertools.compress(self.results, given), *self.losses]
    ys = [y for y in ys if differentiable(y)]
    inputs = self.inputs
    leaves = tf.nest.flatten(self._theta)
    wanted = [input_gradients] * len(inputs) + list(trained)
    xs = [
      x if is_wanted and differentiable(x) else None
      for x, is_wanted in zip([*inputs, *leaves], wanted, strict=True)
    ]
    used = flat_tensors(xs)
    if not ys or not used:
      return [None] * len(inputs), [None] * len(leaves)
    gradients = iter(tf.gradients(ys, used, list(map(fill, ys))))
    all_gradients = [None if x is None else next(gradients) for x in xs]
    of_inputs = [
      None if d_x is None else tf.convert_to_tensor(d_x)
      for d_x in all_gradients[: len(inputs)]
    ]
    return of_inputs, all_gradients[len(inputs) :]

  def trained(
    self, name: str, call: LayerCall, is_trained: weights.IsTrained
  ) -> tuple[bool, ...]:
    """For each weight that the layer uses, whether it is trained.

    Args:
      name: The layer's name within the model.
      call: What the layer of this name is called with.
      is_trained: See there; if it is None all are, as far as is known.
    """
    if is_trained is None:
      return (True,) * len(tf.nest.flatten(self._theta))
    names = self.weights.names.Transform(lambda n: n and f'{name}/{n}')
    names.update(call.tied_names)
    return tuple(bool(n) and is_trained(n) for n in tf.nest.flatten(names))


def _filled(nest: Any, name: str, fill: Fill) -> Any:
  """Data for a nest of specs.

  Args:
    nest: The nest.
    name: The name of the argument; names in a NestedMap add to it.
    fill: See `LayerTrace`.
  """
  if isinstance(nest, dict):
    filled = {
      key: _filled(inner, f'{name}.{key}', fill) for key, inner in nest.items()
    }
    return type(nest)(filled)
  if nest is None:
    return None
  if isinstance(nest, tf.TensorSpec):
    return fill(nest, name)
  return tf.nest.map_structure(lambda leaf: _filled(leaf, name, fill), nest)


@dataclasses.dataclass(frozen=True)
class Backward:
  """The backward pass of a layer.

  Attributes:
    flops: Its FLOPs, without recomputation.
    activation_bytes: Bytes of all of the forward pass that is kept for it, and
      of those of the layer's outputs that are kept for other layers; arguments
      are not among them.
    transient_bytes: Bytes of the other outputs.
    has_gradient: Which of the arguments' tensors, then of the tensors of values
      taken, have a gradient.
    reads: Which of them it reads.
  """

  flops: int
  activation_bytes: int
  transient_bytes: int
  has_gradient: tuple[bool, ...]
  reads: tuple[bool, ...]


class LayerFlops:
  """A layer's graph, which is never run, and the FLOPs of its passes.

  Attributes:
    trace: The layer.
    forward: FLOPs of its forward pass.
  """

  def __init__(self, name: str, params: Any, call: LayerCall):
    """Builds the layer in a graph of its own, and calls it.

    Args:
      name: Its name, for errors.
      params: Its Params.
      call: What it is called with.

    Raises:
      LayerError: It cannot be built, or called with that.
      ValueError: What it returns has no known size.
    """
    with own_graph() as self._graph, explained(name, params, call):
      self.trace = trace = LayerTrace(params, call)
      wanted = trace.run()
      ops = flops.needed(wanted, trace.given_ops)
      self.forward = flops.count(ops)
    check_known(
      (trace.outputs, trace.put),
      f'What layer {name!r} ({params.cls.__name__}) returns for '
      f'{describe(call.args)}',
      'Let its FProp set the shape (tf.ensure_shape), or set balance to '
      "'params', which needs no shapes.",
    )

  def backward(
    self,
    given: Sequence[bool],
    read: Sequence[bool],
    input_gradients: bool,
    trained: Sequence[bool],
  ) -> Backward:
    """Counts the backward pass.

    Args:
      given: See `LayerTrace.gradients`, for the others too.
      read: For each of the layer's results, whether the backward pass of
        another layer reads it.
      input_gradients: See there.
      trained: See there.
    """
    forward = set(self._graph.get_operations())
    with self._graph.as_default():
      inputs, weights = self.trace.gradients(
        given, input_gradients, trained,
        lambda y: tf.placeholder(y.dtype, y.shape),
      )  # fmt: skip
    # TensorFlow also builds gradients that nobody asked for, of a product's
    # other factor, say; what only these read need not be kept.
    gradients = tf.nest.flatten([inputs, weights], expand_composites=True)
    ops = flops.needed(flat_tensors(gradients), forward)
    results = self.trace.results
    kept = _memories(
      [
        *(x for op in ops for x in op.inputs if x.op in forward),
        *itertools.compress(results, read),
      ]
    )
    others = {
      name: memory
      for name, memory in _memories(results).items()
      if name not in kept
    }
    return Backward(
      flops=flops.count(ops),
      activation_bytes=self._own_bytes(kept.values()),
      transient_bytes=self._own_bytes(others.values()),
      has_gradient=tuple(d_x is not None for d_x in inputs),
      reads=tuple(x.name in kept for x in self.trace.inputs),
    )

  def _own_bytes(self, memories: Iterable[tf.Tensor]) -> int:
    """Bytes of memories but those of the layer's arguments and weights."""
    given = self.trace.given_ops
    return sum(_bytes(memory) for memory in memories if memory.op not in given)


def _memories(tensors: Iterable[tf.Tensor]) -> dict[str, tf.Tensor]:
  """The tensors in whose memory some lie, by name."""
  return {memory.name: memory for memory in map(_memory, tensors)}


def _memory(tensor: tf.Tensor) -> tf.Tensor:
  """The tensor in whose memory this one lies."""
  while True:
    op, index = tensor.op, tensor.value_index
    if op.type in _SAME_MEMORY:
      tensor = op.inputs[index]
    elif op.type in CALLS:
      # A function may return what it was given.
      inner = called(op, 'f')
      source = _memory(inner.outputs[index])
      for given, argument in zip(op.inputs, inner.inputs, strict=True):
        if source is argument:
          tensor = given
          break
      else:
        return tensor
    else:
      return tensor


def _bytes(tensor: tf.Tensor) -> int:
  if tensor.dtype.base_dtype == tf.variant:
    return _list_bytes(tensor)
  return spec_bytes(tensor)


def _list_bytes(tensor: tf.Tensor) -> int:
  """Bytes of a list of tensors in which a loop keeps one for each time."""
  if tensor.op.type not in LOOPS:
    return 0
  data = handle_data_util.get_resource_handle_data(tensor)
  trips = trip_count(tensor.op, Frame())
  if data is None or not data.is_set or not trips:
    return 0
  return trips * sum(
    spec_bytes(tf.TensorSpec(element.shape, element.dtype))
    for element in data.shape_and_type
  )


def check_known(nest: Any, what: str, remedy: str) -> None:
  """Raises ValueError if a tensor's size is not known.

  Args:
    nest: Specs.
    what: What they are of, for the error.
    remedy: What to do about it, for the error.
  """
  for leaf in flat_tensors(nest):
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'{what} must be a nest of tf.TensorSpec; it has {leaf!r}. {remedy}'
      )
    if not leaf.shape.is_fully_defined():
      raise ValueError(
        f'{what} has the shape {leaf.shape}, with unknown dimensions; costs '
        f'need all of them. {remedy}'
      )
