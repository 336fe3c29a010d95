# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One cell as functions: forward, backward, and backward with recomputation.

A cell is traced once, into a graph T; its gradient G is built from T. Every
function that a schedule needs is put together from these two, so that all of
them run the same forward pass and the same backward pass, op for op:

```
  forward          T                      keeps nothing
  forward_keep     T + residuals          keeps what G reads
  backward         G + sum                given the residuals
  recompute        forward_keep, G + sum  given the cell's inputs
```

`sum` adds a micro-batch's weight gradients to those of the micro-batches
before it, so that one sum a weight is alive and its order is fixed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function

Weight = tf.Tensor | tf.IndexedSlices | None


@dataclasses.dataclass
class CellInputs:
  """What a cell's traced body is given.

  Attributes:
    inputs: What the cell before hands on, or the pipeline's input: a nest.
    side_inputs: Inputs given to this cell alone, such as labels: a nest.
    weights: A flat list.
    context: An int64 vector; see `Context`.
    carry: A flat list of what the last micro-batch handed to this one within
      the cell. It has no gradient.
  """

  inputs: Any
  side_inputs: Any
  weights: list[tf.Tensor]
  context: 'Context'
  carry: list[tf.Tensor]


@dataclasses.dataclass
class CellOutputs:
  """What a cell's traced body returns.

  Attributes:
    outputs: What the next cell, or the pipeline's caller, gets: a nest.
    losses: Float scalars that add to the loss, such as auxiliary losses.
    carry: As in `CellInputs`, for the next micro-batch; the same structure.
    values: Tensors for the pipeline's caller without a gradient.
  """

  outputs: Any
  losses: list[tf.Tensor] = dataclasses.field(default_factory=list)
  carry: list[tf.Tensor] = dataclasses.field(default_factory=list)
  values: list[tf.Tensor] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Context:
  """Where in the training a task is: the entries of one int64 vector.

  One vector, so that it depends on the global step: TensorFlow would bake a
  constant argument into a copy of the function for each micro-batch.

  Attributes:
    vector: int64 [5].
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


def spec(tensor: tf.Tensor) -> tf.TensorSpec:
  return tf.TensorSpec(tensor.shape, tensor.dtype.base_dtype)


def differentiable(tensor: tf.Tensor | tf.TensorSpec) -> bool:
  dtype = tensor.dtype.base_dtype
  return dtype.is_floating or dtype.is_complex


class CellFunction:
  """A cell traced for inputs of one set of shapes and dtypes.

  Attributes:
    device: The device of each op in the functions; may be ''.
    outputs: Specs of the outputs, in the cell's own nest.
    num_losses: How many losses the cell adds.
    num_values: How many values it hands to the caller.
    captures: Tensors of the surrounding graph that the cell uses besides its
      arguments; weights in all but name.
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
  ):
    """Traces the cell.

    Args:
      name: The cell's name.
      body: What the cell computes.
      inputs: Specs of `CellInputs.inputs`, None where there is no tensor.
      side_inputs: Specs of `CellInputs.side_inputs`, likewise.
      weights: The weights.
      carry: The carry of the first micro-batch.
      device: The device of each op in the functions; '' for where they are
        called.
    """
    self.name = name
    self.device = device
    self._input_nest = (inputs, side_inputs)
    input_specs = _tensors(self._input_nest)
    self._num_inputs = len(input_specs)
    self._num_weights = len(weights)
    specs = [
      *input_specs,
      *map(spec, weights),
      CONTEXT_SPEC,
      *map(spec, carry),
    ]
    self._num_arguments = len(specs)
    self._graph = graph_function.trace(
      f'{name}_forward',
      lambda *args: self._run_body(body, args),
      specs,
      device,
    )
    self.captures = list(self._graph.external_captures)
    self._forward: graph_function.GraphFunction | None = None
    self._backward: _Backward | None = None

  def _run_body(
    self, body: Callable[[CellInputs], CellOutputs], args: Sequence[tf.Tensor]
  ) -> list[tf.Tensor]:
    """Traces the body on flat arguments, and notes what it returned."""
    weights_end = self._num_inputs + self._num_weights
    inputs, side_inputs = _pack(self._input_nest, args[: self._num_inputs])
    outputs = body(
      CellInputs(
        inputs=inputs,
        side_inputs=side_inputs,
        weights=list(args[self._num_inputs : weights_end]),
        context=Context(args[weights_end]),
        carry=list(args[weights_end + 1 :]),
      )
    )
    outputs.outputs = tf.nest.map_structure(_tensor_or_none, outputs.outputs)
    self.outputs = tf.nest.map_structure(_spec_or_none, outputs.outputs)
    flat = _tensors(outputs.outputs)
    self.num_outputs = len(flat)
    self.num_losses = len(outputs.losses)
    self.num_carry = len(outputs.carry)
    self.num_values = len(outputs.values)
    return [*flat, *outputs.losses, *outputs.carry, *outputs.values]

  @property
  def graph(self) -> graph_function.FuncGraph:
    """The traced graph T."""
    return self._graph

  def arguments(
    self,
    inputs: Any,
    side_inputs: Any,
    weights: Sequence[tf.Tensor],
    context: tf.Tensor,
    carry: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """The flat arguments of a call."""
    return [
      *_tensors((inputs, side_inputs)),
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
    return CellOutputs(
      outputs=_pack(self.outputs, flat[: ends[0]]),
      losses=list(flat[ends[0] : ends[1]]),
      carry=list(flat[ends[1] : ends[2]]),
      values=list(flat[ends[2] : ends[3]]),
    )

  def forward(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell, keeping nothing."""
    if self._forward is None:
      self._forward = graph_function.GraphFunction(self._graph)
    return self._forward(args)

  def prepare_backward(
    self, has_gradient: Sequence[bool], input_gradients: bool
  ) -> list[bool]:
    """Builds the gradient; to be called before any other call.

    Args:
      has_gradient: For each output tensor, whether it is given a gradient.
      input_gradients: Whether to compute gradients of inputs, side inputs
        excepted.

    Returns:
      For each tensor of `inputs`, whether it has a gradient.
    """
    assert self._forward is None, 'The forward function is already made.'
    ys = [
      t
      for t, given in zip(
        self._graph.outputs[: self.num_outputs], has_gradient, strict=True
      )
      if given
    ]
    first = self.num_outputs
    ys += self._graph.outputs[first : first + self.num_losses]
    num_data = len(_tensors(self._input_nest[0])) if input_gradients else 0
    self._backward = _Backward(self, ys, num_data)
    gradients = self._backward.input_positions
    return [position is not None for position in gradients] + [False] * (
      len(_tensors(self._input_nest[0])) - num_data
    )

  @property
  def backward(self) -> '_Backward':
    assert self._backward is not None, f'{self.name} is forward only.'
    return self._backward

  @property
  def weight_inputs(self) -> list[tf.Tensor]:
    """The placeholders of weights, then of captures."""
    inputs = self._graph.inputs
    weights = inputs[self._num_inputs : self._num_inputs + self._num_weights]
    return [*weights, *inputs[self._num_arguments :]]


class _Backward:
  """The functions of one cell that need its gradient."""

  def __init__(
    self, cell: CellFunction, ys: Sequence[tf.Tensor], num_data_inputs: int
  ):
    self._name = cell.name
    self._device = cell.device
    graph = cell.graph
    xs = [*graph.inputs[:num_data_inputs], *cell.weight_inputs]
    used = [i for i, x in enumerate(xs) if differentiable(x)]
    gradient = graph_function.differentiate(
      graph,
      ys,
      [xs[i] for i in used],
      f'{cell.name}_backward',
      dense=[i < num_data_inputs for i in used],
      device=cell.device,
    )
    positions: list[Any] = [None] * len(xs)
    for i, position in zip(used, gradient.positions, strict=True):
      positions[i] = position
    self.num_ys = len(ys)
    self.input_positions = positions[:num_data_inputs]
    self.weight_positions = positions[num_data_inputs:]
    self._argument_specs = [spec(t) for t in graph.inputs]
    self._y_specs = [spec(y) for y in ys]
    self._num_results = len(graph.outputs)
    self._sources, residuals, self.outer = _sources(gradient, graph)
    self._graph = graph
    self._residuals = residuals
    self._forward_keep: graph_function.GraphFunction | None = None
    self._forward_again: graph_function.GraphFunction | None = None
    self._residual_specs = [spec(t) for t in residuals]
    self._gradient = graph_function.GraphFunction(gradient.graph)
    self._gradient_specs = [spec(t) for t in gradient.graph.outputs]
    self._functions: dict[tuple[bool, bool], graph_function.GraphFunction] = {}

  @property
  def is_empty(self) -> bool:
    """Whether nothing in the cell has a gradient."""
    return not self._gradient_specs

  def forward_keep(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell; returns what it returns, then the residuals."""
    if self._forward_keep is None:
      self._forward_keep = _with_outputs(
        self._graph, [*self._graph.outputs, *self._residuals]
      )
    return self._forward_keep(args)

  def _recompute(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell again, for the residuals alone.

    A function of its own: where outputs of a call are not used TensorFlow
    makes a copy of the function without them, for each caller.
    """
    if self._forward_again is None:
      self._forward_again = _with_outputs(self._graph, self._residuals)
    return self._forward_again(args)

  def residuals(self, kept: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Of what `forward_keep` returned, what `backward` needs."""
    return list(kept[self._num_results :])

  def __call__(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor] | None,
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Calls the backward pass of one micro-batch.

    Args:
      args: The arguments of the micro-batch's forward call.
      residuals: What the forward pass kept; None to recompute it.
      d_ys: Gradients of the outputs that have one, then of the losses.
      sums: The weight gradients so far; None for the first micro-batch.

    Returns:
      The gradients of the cell's inputs, None where there is none; and the
      new sums.
    """
    recompute = residuals is None
    function = self._function(recompute, sums is None)
    if recompute:
      given = [*args, *self.outer, *d_ys]
    else:
      given = [*self._captured(args, residuals, self.outer), *d_ys]
    results = function([*given, *(sums or ())])
    count = sum(position is not None for position in self.input_positions)
    data = iter(results[:count])
    d_inputs = [
      None if position is None else next(data)
      for position in self.input_positions
    ]
    return d_inputs, results[count:]

  def _captured(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    outer: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """What G reads, in its order."""
    pools = {'argument': args, 'residual': residuals, 'outer': outer}
    return [pools[pool][index] for pool, index in self._sources]

  def _function(
    self, recompute: bool, first: bool
  ) -> graph_function.GraphFunction:
    """The function for one kind of backward task, made when first needed."""
    key = (recompute, first)
    if key in self._functions:
      return self._functions[key]
    outer_specs = [spec(t) for t in self.outer]
    if recompute:
      given_specs = [*self._argument_specs, *outer_specs]
    else:
      given_specs = self._captured(
        self._argument_specs, self._residual_specs, outer_specs
      )
    num_given, num_args = len(given_specs), len(self._argument_specs)

    def body(*tensors: tf.Tensor) -> list[tf.Tensor]:
      captured = list(tensors[:num_given])
      d_ys = tensors[num_given : num_given + self.num_ys]
      if recompute:
        args, outer = captured[:num_args], captured[num_args:]
        captured = self._captured(args, self._recompute(args), outer)
      gradients = self._gradient([*d_ys, *captured])
      sums = None if first else tensors[num_given + self.num_ys :]
      return [*self._data_gradients(gradients), *self._add(gradients, sums)]

    sum_specs = [] if first else self._sum_specs()
    self._functions[key] = graph_function.as_function(
      self._name + ('_recompute' if recompute else '_backward'),
      body,
      [*given_specs, *self._y_specs, *sum_specs],
      self._device,
    )
    return self._functions[key]

  def _data_gradients(self, gradients: Sequence[Any]) -> list[Any]:
    return [gradients[p] for p in self.input_positions if p is not None]

  def _add(
    self, gradients: Sequence[tf.Tensor], sums: Sequence[tf.Tensor] | None
  ) -> list[tf.Tensor]:
    """Adds a micro-batch's weight gradients to the sums."""
    before = iter(sums or ())
    after: list[tf.Tensor] = []
    for position in self.weight_positions:
      if position is None:
        continue
      if isinstance(position, graph_function.Slices):
        parts = [gradients[position.values], gradients[position.indices]]
        if sums is not None:
          parts = [tf.concat([next(before), part], axis=0) for part in parts]
        after += parts
        continue
      gradient = gradients[position]
      wide = _sum_dtype(gradient.dtype)
      if gradient.dtype != wide:
        gradient = tf.cast(gradient, wide)
      after.append(gradient if sums is None else next(before) + gradient)
    return after

  def _sum_specs(self) -> list[tf.TensorSpec]:
    specs = []
    for position in self.weight_positions:
      if position is None:
        continue
      if isinstance(position, graph_function.Slices):
        for index in (position.values, position.indices):
          part = self._gradient_specs[index]
          shape = [None, *part.shape.as_list()[1:]]
          specs.append(tf.TensorSpec(shape, part.dtype))
      else:
        part = self._gradient_specs[position]
        specs.append(tf.TensorSpec(part.shape, _sum_dtype(part.dtype)))
    return specs

  def weight_gradients(
    self, sums: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
  ) -> list[Weight]:
    """The gradient of each weight and capture, from the last sums."""
    rest = iter(sums)
    gradients: list[Weight] = []
    for position, weight in zip(self.weight_positions, weights, strict=True):
      if position is None:
        gradients.append(None)
      elif isinstance(position, graph_function.Slices):
        values, indices = next(rest), next(rest)
        shape = tf.shape(weight, out_type=indices.dtype)
        gradients.append(tf.IndexedSlices(values, indices, shape))
      else:
        gradients.append(tf.cast(next(rest), weight.dtype.base_dtype))
    return gradients


def _with_outputs(
  graph: graph_function.FuncGraph, outputs: Sequence[tf.Tensor]
) -> graph_function.GraphFunction:
  """A function of a traced graph that returns other tensors of it."""
  before = graph.outputs
  graph.outputs = list(outputs)
  try:
    return graph_function.GraphFunction(graph)
  finally:
    graph.outputs = before


def _sum_dtype(dtype: tf.DType) -> tf.DType:
  """Half-precision gradients are summed in float32: M of them lose bits."""
  return tf.float32 if dtype in (tf.bfloat16, tf.float16) else dtype


def _sources(
  gradient: graph_function.Gradient, graph: graph_function.FuncGraph
) -> tuple[list[tuple[str, int]], list[tf.Tensor], list[tf.Tensor]]:
  """Says where each tensor that a gradient reads comes from.

  Returns:
    For each, the pool ('argument' of the forward call, 'residual' or 'outer')
    and its index there; the residuals; and the tensors of no traced graph.
  """
  arguments = {id(t): i for i, t in enumerate(graph.inputs)}
  sources: list[tuple[str, int]] = []
  residuals: list[tf.Tensor] = []
  outer: list[tf.Tensor] = []
  for tensor in gradient.captures:
    if id(tensor) in arguments:
      sources.append(('argument', arguments[id(tensor)]))
    elif getattr(tensor, 'graph', None) is graph:
      sources.append(('residual', len(residuals)))
      residuals.append(tensor)
    else:
      sources.append(('outer', len(outer)))
      outer.append(tensor)
  return sources, residuals, outer


def _tensors(nest: Any) -> list[Any]:
  return [leaf for leaf in tf.nest.flatten(nest) if leaf is not None]


def _pack(nest: Any, tensors: Sequence[tf.Tensor]) -> Any:
  rest = iter(tensors)
  leaves = [
    None if leaf is None else next(rest) for leaf in tf.nest.flatten(nest)
  ]
  return tf.nest.pack_sequence_as(nest, leaves)


def _tensor_or_none(leaf: Any) -> tf.Tensor | None:
  return None if leaf is None else tf.convert_to_tensor(leaf)


def _spec_or_none(leaf: tf.Tensor | None) -> tf.TensorSpec | None:
  return None if leaf is None else spec(leaf)
