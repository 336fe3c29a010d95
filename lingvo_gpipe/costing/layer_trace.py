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
import enum
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf
from lingvo.core import py_utils
from tensorflow.python.ops import handle_data_util

from lingvo_gpipe.costing import flops, weights
from lingvo_gpipe.costing.static_values import CALLS, LOOPS, Frame, Loop, called
from lingvo_gpipe.costing.weights import explained, own_graph
from lingvo_gpipe.engine import repairs
from lingvo_gpipe.engine.graph_walks import needed
from lingvo_gpipe.engine.tensors import (
  differentiable,
  flat_tensors,
  signature,
  spec_bytes,
  specs_of,
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
    tied: Specs of other layers' weights, by their name in its theta.
    tied_names: The same with these weights' names; see `Weights.names`.
  """

  args: tuple[Any, ...]
  taken: dict[str, Any]
  tied: dict[str, Any] = dataclasses.field(default_factory=dict)
  tied_names: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    args = self.args[0] if len(self.args) == 1 else self.args
    text = describe(args)
    return f'{text} and {describe(self.taken)}' if self.taken else text

  def key(self) -> Any:
    return signature(((self.args, self.taken), self.tied))


# Makes data of a spec and of the name of the argument that it is for.
Fill: TypeAlias = Callable[[tf.TensorSpec, str], tf.Tensor]


class LayerTrace:
  """A layer in the current graph, forward and backward.

  Attributes:
    inputs: The arguments' tensors, then those of values taken.
    given_ops: The ops that are there before it is called.
    results: The tensors that it returns, then those of values that it puts.
    outputs: Specs of what it returns, a nest.
    put: Specs of the values that it puts, by name.
  """

  def __init__(self, params: Any, call: LayerCall, fill: Fill | None = None):
    """Builds the layer; without `fill` data and weights are placeholders."""
    self.layer = params.Copy().Set(name=params.name or 'layer').Instantiate()
    self.weights = weights.weights_of(self.layer)
    make = fill or (lambda spec, _: tf.placeholder(spec.dtype, spec.shape))
    names = list(inspect.signature(self.layer.FProp).parameters)[1:]
    self._args = [
      _filled(nest, name, make)
      for nest, name in zip(
        call.args, [*names, *[''] * len(call.args)], strict=False
      )
    ]
    self._taken = {
      name: _filled(nest, name, make) for name, nest in call.taken.items()
    }
    if fill is None:
      self._theta = _filled(self.weights.theta, '', make)
    else:
      theta = self.layer.theta
      self._theta = tf.nest.map_structure(tf.convert_to_tensor, theta)
    self._theta.update(_filled(call.tied, 'tied', make))
    self.inputs = flat_tensors((self._args, self._taken))
    self.given_ops = set(tf.get_default_graph().get_operations())

  def run(self) -> list[Any]:
    """Calls the layer; returns the tensors and ops that are all it does."""
    declared = named_values.declared(self.layer.params)
    with (
      named_values.scope(self._taken) as scope,
      py_utils.AuxLossContext(reentrant=True) as aux,
      tf.get_default_graph().gradient_override_map(repairs.GRADIENTS),
    ):
      outputs = self.layer.FProp(self._theta, *self._args)
      put = {name: scope.values[name] for name in declared.puts}
    returned = tf.nest.map_structure(
      lambda x: None if x is None else tf.convert_to_tensor(x), (outputs, put)
    )
    self.results = flat_tensors(returned)
    self.losses = list(aux.aux_losses)
    self.outputs, self.put = specs_of(returned)
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

    `given` and `trained` say for each of `results`, and each weight, whether it
    has a gradient; `fill` makes those of results and losses. Returned are those
    of `inputs` and of weights: None where there is none, or none is wanted.
    """
    ys = [*itertools.compress(self.results, given), *self.losses]
    ys = [y for y in ys if differentiable(y)]
    count = len(self.inputs)
    xs = [*self.inputs, *tf.nest.flatten(self._theta)]
    wanted = [input_gradients] * count + list(trained)
    used = [
      i
      for i, x in enumerate(xs)
      if wanted[i] and x is not None and differentiable(x)
    ]
    gradients: list[Any] = [None] * len(xs)
    if ys and used:
      found = tf.gradients(ys, [xs[i] for i in used], list(map(fill, ys)))
      for i, gradient in zip(used, found, strict=True):
        gradients[i] = gradient
    of_inputs = [
      None if d_x is None else tf.convert_to_tensor(d_x)
      for d_x in gradients[:count]
    ]
    return of_inputs, gradients[count:]

  def trained(
    self, name: str, call: LayerCall, is_trained: weights.IsTrained
  ) -> tuple[bool, ...]:
    if is_trained is None:
      return (True,) * len(tf.nest.flatten(self._theta))
    names = self.weights.names.Transform(lambda n: n and f'{name}/{n}')
    names.update(call.tied_names)
    return tuple(bool(n) and is_trained(n) for n in tf.nest.flatten(names))


def _filled(nest: Any, name: str, fill: Fill) -> Any:
  """Data for a nest of specs that an argument is; keys add to its name."""
  if isinstance(nest, dict):
    filled = {
      key: _filled(inner, f'{name}.{key}', fill) for key, inner in nest.items()
    }
    return type(nest)(filled)
  return tf.nest.map_structure(
    lambda leaf: None if leaf is None else fill(leaf, name), nest
  )


class Use(enum.Flag):
  """What the backward passes of layers do with a tensor."""

  NONE = 0
  GRADIENT = enum.auto()
  READ = enum.auto()


@dataclasses.dataclass(frozen=True)
class Backward:
  """The backward pass of a layer.

  Attributes:
    flops: Without recomputation.
    weight_share: The share of them that gradients of inputs do not need.
    activation_bytes: Of what is kept for it, and of outputs that other layers
      keep; without arguments.
    transient_bytes: Of the other outputs.
    uses: What it does with the arguments' tensors, then with those taken.
  """

  flops: int
  weight_share: float | None
  activation_bytes: int
  transient_bytes: int
  uses: list[Use]


class LayerFlops:
  """A layer's graph, which is never run, and the FLOPs of its passes."""

  def __init__(self, name: str, params: Any, call: LayerCall):
    self._frame = Frame()
    self.backward = functools.cache(self._backward)
    with own_graph() as self._graph, explained(name, params, call):
      self.trace = trace = LayerTrace(params, call)
      ops = needed(trace.run(), trace.given_ops)
      self.forward = flops.count(ops, self._frame)
    for spec in flat_tensors((trace.outputs, trace.put)):
      if not spec.shape.is_fully_defined():
        raise ValueError(
          f'What layer {name!r} ({params.cls.__name__}) returns for '
          f'{describe(call.args)} has the shape {spec.shape}, with unknown '
          'dimensions; costs need all of them. Let its FProp set the shape '
          "(tf.ensure_shape), or set balance to 'params', which needs none."
        )

  def _backward(
    self,
    given: tuple[bool, ...],
    read: tuple[bool, ...],
    input_gradients: bool,
    trained: tuple[bool, ...],
  ) -> Backward:
    """See `LayerTrace.gradients`; other layers' passes read what is `read`."""
    forward = set(self._graph.get_operations())
    with self._graph.as_default():
      inputs, weights = self.trace.gradients(
        given, input_gradients, trained,
        lambda y: tf.placeholder(y.dtype, y.shape),
      )  # fmt: skip
    # TensorFlow also builds gradients that nobody asked for, of a product's
    # other factor, say; what only these read need not be kept.
    gradients = tf.nest.flatten([inputs, weights], expand_composites=True)
    ops = needed(flat_tensors(gradients), forward)
    all_flops = of_inputs = flops.count(ops, self._frame)
    if not input_gradients:
      of_inputs = 0
    elif any(trained):
      none = (False,) * len(trained)
      of_inputs = self.backward(given, read, True, none).flops
    results = self.trace.results
    kept = _memories(
      [
        *(x for op in ops for x in op.inputs if x.op in forward),
        *itertools.compress(results, read),
      ]
    )
    others = [m for name, m in _memories(results).items() if name not in kept]
    return Backward(
      flops=all_flops,
      weight_share=1 - min(of_inputs / all_flops, 1.0) if all_flops else None,
      activation_bytes=self._own_bytes(kept.values()),
      transient_bytes=self._own_bytes(others),
      uses=[
        (Use.NONE if d_x is None else Use.GRADIENT)
        | (Use.READ if x.name in kept else Use.NONE)
        for x, d_x in zip(self.trace.inputs, inputs, strict=True)
      ],
    )

  def _own_bytes(self, memories: Iterable[tf.Tensor]) -> int:
    given = self.trace.given_ops
    return sum(self._bytes(m) for m in memories if m.op not in given)

  def _bytes(self, tensor: tf.Tensor) -> int:
    if tensor.dtype.base_dtype != tf.variant or tensor.op.type not in LOOPS:
      return spec_bytes(tensor)
    # A list in which a loop keeps a tensor for each time.
    data = handle_data_util.get_resource_handle_data(tensor)
    elements = data.shape_and_type if data is not None and data.is_set else ()
    trips = Loop(tensor.op, self._frame).trips() or 0
    return trips * sum(
      spec_bytes(tf.TensorSpec(each.shape, each.dtype)) for each in elements
    )


def _memories(tensors: Iterable[tf.Tensor]) -> dict[str, tf.Tensor]:
  return {memory.name: memory for memory in map(_memory, tensors)}


def _memory(tensor: tf.Tensor) -> tf.Tensor:
  """The tensor in whose memory this one lies."""
  op, index = tensor.op, tensor.value_index
  if op.type in _SAME_MEMORY:
    return _memory(op.inputs[index])
  if op.type in CALLS:
    # A function may return what it was given.
    [inner] = called(op)
    source = _memory(inner.outputs[index])
    for given, argument in zip(op.inputs, inner.inputs, strict=True):
      if source is argument:
        return _memory(given)
  return tensor
