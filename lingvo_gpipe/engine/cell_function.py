# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One cell as functions: traced once, called for each micro-batch.

A cell is traced into a graph T; its gradient G is built from T. Every function
that a schedule needs is put together from these two, so that all of them run
the same forward pass and the same backward pass, op for op.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function, packing
from lingvo_gpipe.engine.backward_function import (
  BackwardFunction,
  forward_function,
)
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  flat_tensors,
  spec,
  specs_of,
)


@dataclasses.dataclass
class CellInputs:
  """What a cell's traced body is given.

  Attributes:
    inputs: What the cell before hands on, or the pipeline's input: a nest.
    side_inputs: Inputs given to this cell alone, such as labels: a nest.
    weights: A flat list.
    context: Where in the training this is.
    carry: What the last micro-batch handed to this one within the cell, a flat
      list without gradients.
    taken: Values that earlier cells put aside, a nest by each name.
  """

  inputs: Any
  side_inputs: Any
  weights: list[tf.Tensor]
  context: 'Context'
  carry: list[tf.Tensor]
  taken: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class CellOutputs:
  """What a cell's traced body returns.

  Attributes:
    outputs: What the next cell, or the pipeline's caller, gets: a nest.
    losses: Float scalars that add to the loss, such as auxiliary losses.
    carry: As in `CellInputs`, for the next micro-batch; the same structure.
    values: Tensors for the pipeline's caller without a gradient.
    put: Values put aside for later cells, a nest by each name.
    rests: What is left for later cells of the values taken, the same. They
      get the value from where it was put, but send its gradient here.
    kept: Ranges of the ops traced so far, by number. A recomputed forward pass
      does not run them again; what it needs of them is kept.
    notes: What else the trace has to say; see `CellFunction.notes`.
  """

  outputs: Any
  losses: list[tf.Tensor] = dataclasses.field(default_factory=list)
  carry: list[tf.Tensor] = dataclasses.field(default_factory=list)
  values: list[tf.Tensor] = dataclasses.field(default_factory=list)
  put: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rests: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  kept: Sequence[range] = ()
  notes: Any = None


@dataclasses.dataclass(frozen=True)
class HasGradient:
  """For each tensor that a cell returns, whether it is given a gradient.

  Or the gradients themselves, in the order of a backward call: of outputs; of
  values put and of the rests for which gradients come back, by name.
  """

  outputs: Sequence[Any]
  put: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  rests: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

  def in_order(self, losses: Sequence[Any]) -> list[Any]:
    """All of them, those of the losses in between."""
    flat = list(self.outputs)
    for name in sorted(self.put):
      flat += self.put[name]
    flat += losses
    for name in sorted(self.rests):
      flat += self.rests[name]
    return flat


@dataclasses.dataclass(frozen=True)
class Context:
  """Where in the training a task is: the entries of one int64 vector.

  One vector, so that it depends on the global step: TensorFlow would bake a
  constant argument into a copy of the function for each micro-batch.
  """

  vector: tf.Tensor

  @property
  def step(self) -> tf.Tensor:
    """The global step."""
    return self.vector[0]

  @property
  def seed(self) -> tf.Tensor:
    """The step seed around the pipeline."""
    return self.vector[1]

  @property
  def micro_batch(self) -> tf.Tensor:
    """Which of the M micro-batches this is."""
    return self.vector[2]

  @property
  def share(self) -> tf.Tensor:
    """The micro-batch's share of the mini-batch's examples, float32."""
    return tf.cast(self.vector[3], tf.float32) / tf.cast(
      self.vector[4], tf.float32
    )


CONTEXT_SPEC = tf.TensorSpec([5], tf.int64)


class CellFunction:
  """A cell traced for inputs of one set of shapes and dtypes.

  Attributes:
    device: The device of each op in the functions; may be ''.
    outputs: Specs of the outputs, in the cell's own nest.
    put: Specs of the values put aside, in their nests, by name.
    num_losses: How many losses the cell adds.
    num_values: How many values it hands to the caller.
    notes: What the body returned as `CellOutputs.notes`.
    graph: The traced graph T.
    captures: Tensors of the surrounding graph that the cell uses besides its
      arguments; weights in all but name.
    has_gradient: What `prepare_backward` was given.
  """

  def __init__(
    self,
    name: str,
    body: Callable[[CellInputs], CellOutputs],
    inputs: Any,
    side_inputs: Any,
    weights: Sequence[tf.Tensor],
    carry: Sequence[tf.Tensor],
    device: str = '',
    *,
    taken: Mapping[str, Any] | None = None,
  ):
    """Traces the cell.

    Args:
      name: The cell's name.
      body: What the cell computes.
      inputs: Specs, None where there is no tensor; as `side_inputs`, `taken`.
      side_inputs: See `inputs`.
      weights: The weights.
      carry: The carry of the first micro-batch.
      device: The device of each op in the functions; '' for where they run.
      taken: See `inputs`.
    """
    self.name = name
    self.device = device
    self._input_nest = (inputs, dict(taken or {}), side_inputs)
    input_specs = flat_tensors(self._input_nest)
    self._num_inputs = len(input_specs)
    self._num_weights = len(weights)
    specs = [
      *input_specs,
      *map(spec, weights),
      CONTEXT_SPEC,
      *map(spec, carry),
    ]
    self._num_arguments = len(specs)
    self._packs = not compiles_graph()
    self.graph: graph_function.FuncGraph = graph_function.trace(
      f'{name}_forward',
      lambda *args: self._run_body(body, args),
      specs,
      device,
    )
    self.captures = list(self.graph.external_captures)
    self._forward: graph_function.GraphFunction | None = None
    self._backward: BackwardFunction | None = None

  def _run_body(
    self, body: Callable[[CellInputs], CellOutputs], args: Sequence[tf.Tensor]
  ) -> list[tf.Tensor]:
    """Traces the body on flat arguments, and notes what it returned."""
    weights_end = self._num_inputs + self._num_weights
    inputs, taken, side_inputs = _pack(
      self._input_nest, args[: self._num_inputs]
    )
    outputs = body(
      CellInputs(
        inputs=inputs,
        side_inputs=side_inputs,
        weights=list(args[self._num_inputs : weights_end]),
        context=Context(args[weights_end]),
        carry=list(args[weights_end + 1 :]),
        taken=taken,
      )
    )
    nests = tf.nest.map_structure(
      lambda leaf: None if leaf is None else tf.convert_to_tensor(leaf),
      (outputs.outputs, dict(outputs.put)),
    )
    self.outputs, self.put = specs_of(nests)
    self.notes = outputs.notes
    self._kept = outputs.kept
    self._rests = {n: flat_tensors(rest) for n, rest in outputs.rests.items()}
    flat = flat_tensors(nests)
    self.num_outputs = len(flat)
    self.num_losses = len(outputs.losses)
    self.num_carry = len(outputs.carry)
    self.num_values = len(outputs.values)
    return [*flat, *outputs.losses, *outputs.carry, *outputs.values]

  def uses_weight(self, index: int) -> bool:
    """Whether the cell reads one of its weights as a tensor."""
    weight = self.graph.inputs[self._num_inputs + index]
    returned = any(t is weight for t in self.graph.outputs)
    return returned or bool(weight.consumers())

  def pack_weights(self, weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The weights as `arguments` takes them, for calls where this is."""
    like = packing.items(self._all_weights, packs=self._packs)
    return packing.pack(weights, like)

  @property
  def _all_weights(self) -> list[tf.Tensor]:
    """The placeholders of all weights."""
    end = self._num_inputs + self._num_weights
    return self.graph.inputs[self._num_inputs : end]

  @property
  def _argument_items(self) -> list[packing.Item]:
    return [
      *self.data_inputs,
      *packing.items(self._all_weights, packs=self._packs),
      *self.graph.inputs[self._num_inputs + self._num_weights :],
    ]

  def arguments(
    self,
    inputs: Any,
    side_inputs: Any,
    weights: Sequence[tf.Tensor],
    context: tf.Tensor,
    carry: Sequence[tf.Tensor],
    *,
    taken: Mapping[str, Any] | None = None,
  ) -> list[tf.Tensor]:
    """The flat arguments of a call; the weights are from `pack_weights`."""
    return [
      *flat_tensors((inputs, dict(taken or {}), side_inputs)),
      *weights,
      context,
      *carry,
      *self.captures,
    ]

  def results(self, flat: Sequence[tf.Tensor]) -> CellOutputs:
    """Packs what a call returned."""
    ends = [self.num_outputs]
    for count in (self.num_losses, self.num_carry, self.num_values):
      ends.append(ends[-1] + count)
    outputs, put = _pack((self.outputs, self.put), flat[: ends[0]])
    return CellOutputs(
      outputs=outputs,
      put=put,
      losses=list(flat[ends[0] : ends[1]]),
      carry=list(flat[ends[1] : ends[2]]),
      values=list(flat[ends[2] : ends[3]]),
    )

  def forward(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell, keeping nothing."""
    if self._forward is None:
      self._forward = forward_function(
        f'{self.name}_forward', self.graph, self._argument_items
      )
    return self._forward(args)

  def prepare_backward(
    self,
    has_gradient: HasGradient,
    input_gradients: bool,
    *,
    trained: Sequence[bool] | None = None,
    without: Collection[str] = (),
    weighted: bool = False,
    keeps: bool = True,
  ) -> tuple[list[bool], dict[str, list[bool]]]:
    """Builds the gradient; to be called before any other call.

    Args:
      has_gradient: Which tensors of what the cell returns are given one.
      input_gradients: Whether to compute gradients of the inputs.
      trained: For each weight, whether its gradient is wanted; None if that of
        all is. Those of captures always are.
      without: Names of values taken whose gradients nobody needs.
      weighted: Whether the losses, or the only output if there are none, are
        given the micro-batch's weight as their gradient: if it is 0, nothing
        that the cell returns is to be NaN.
      keeps: Whether what the trace wants to be kept is kept.

    Returns:
      Whether there is a gradient, as from `split_gradients`.
    """
    assert self._forward is None, 'The forward function is already made.'
    self.has_gradient = has_gradient
    ends = self.num_outputs, self.num_outputs + self.num_losses
    returned = [
      *self.graph.outputs[: ends[1]],
      *(t for name in sorted(has_gradient.rests) for t in self._rests[name]),
    ]
    given = has_gradient.in_order([True] * self.num_losses)
    before_losses = HasGradient(has_gradient.outputs, has_gradient.put)
    weight = sum(before_losses.in_order([])) if self.num_losses else 0
    ys = [y for y, is_given in zip(returned, given, strict=True) if is_given]
    self._backward = BackwardFunction(
      self.name,
      self.graph,
      self._argument_items,
      ys,
      self._data(input_gradients, without),
      self.weight_inputs(trained),
      self.device,
      weight if weighted and ys else None,
      packs=self._packs,
      kept=self._kept if keeps else (),
    )
    positions = self._backward.input_positions
    return self.split_gradients(
      [position is not None for position in positions]
    )

  def _data(
    self, input_gradients: bool, without: Collection[str]
  ) -> list[tf.Tensor | None]:
    """The placeholders of inputs and of values taken, None if not wanted."""
    inputs, taken, _ = self._input_nest
    wanted = [input_gradients] * len(flat_tensors(inputs))
    for name in sorted(taken):
      wanted += [name not in without] * len(flat_tensors(taken[name]))
    return [
      x if is_wanted else None
      for x, is_wanted in zip(self.graph.inputs, wanted, strict=False)
    ]

  def split_gradients(
    self, flat: Sequence[Any]
  ) -> tuple[list[Any], dict[str, list[Any]]]:
    """Tells gradients of the inputs from those of the values taken, by name."""
    inputs, taken, _ = self._input_nest
    end = len(flat_tensors(inputs))
    of_inputs, of_taken = list(flat[:end]), {}
    for name in sorted(taken):
      start, end = end, end + len(flat_tensors(taken[name]))
      of_taken[name] = list(flat[start:end])
    return of_inputs, of_taken

  @property
  def goes_back(self) -> bool:
    """Whether it has a backward pass."""
    return self._backward is not None

  @property
  def backward(self) -> BackwardFunction:
    """The functions of the backward pass; it must have one."""
    assert self._backward is not None, f'{self.name} is forward only.'
    return self._backward

  @property
  def data_inputs(self) -> list[tf.Tensor]:
    """The placeholders of inputs, values taken and side inputs."""
    return self.graph.inputs[: self._num_inputs]

  def weight_inputs(
    self, trained: Sequence[bool] | None = None
  ) -> list[tf.Tensor]:
    """The placeholders of weights, those that are trained; then of captures."""
    weights = self._all_weights
    if trained is not None:
      weights = list(itertools.compress(weights, trained))
    return [*weights, *self.graph.inputs[self._num_arguments :]]


def _pack(nest: Any, tensors: Sequence[tf.Tensor]) -> Any:
  rest = iter(tensors)
  leaves = [
    None if leaf is None else next(rest) for leaf in tf.nest.flatten(nest)
  ]
  return tf.nest.pack_sequence_as(nest, leaves)
