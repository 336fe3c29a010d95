# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a traced layer's backward pass does, and needs of the forward pass."""

import dataclasses
from collections.abc import Iterable, Sequence

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import handle_data_util

from lingvo_gpipe.costing import functions, graph_flops
from lingvo_gpipe.costing.layer_trace import LayerTrace
from lingvo_gpipe.costing.static_values import (
  CALLS,
  LOOPS,
  Frame,
  trip_count,
)
from lingvo_gpipe.engine import gradient_graph, graph_function
from lingvo_gpipe.engine.tensors import differentiable, flat_tensors, spec_bytes

# Ops whose output is their input's memory.
_SAME_MEMORY = frozenset(
  (
    *('CheckNumerics', 'EnsureShape', 'ExpandDims', 'Identity', 'IdentityN'),
    *('PlaceholderWithDefault', 'PreventGradient', 'Reshape', 'Squeeze'),
    *('Snapshot', 'StopGradient'),
  )
)


@dataclasses.dataclass(frozen=True)
class Backward:
  """The backward pass of a layer.

  Attributes:
    flops: Its FLOPs, without recomputation.
    activation_bytes: Bytes of all that it needs of the forward pass, and of
      the layer's outputs; arguments are not among them.
    has_gradient: Which of the arguments' tensors, then of the tensors of values
      taken, have a gradient.
  """

  flops: int
  activation_bytes: int
  has_gradient: tuple[bool, ...]


def backward(
  trace: LayerTrace,
  given: Sequence[bool],
  input_gradients: bool,
  trained: Sequence[bool] | None = None,
) -> Backward:
  """Differentiates a traced layer.

  Args:
    trace: The layer.
    given: For each tensor of its outputs, then of the values that it puts,
      whether it is given a gradient.
    input_gradients: Whether the arguments' gradients are wanted.
    trained: For each weight, whether its gradient is wanted; None for all.
  """
  graph = trace.function.graph
  num_outputs = trace.function.num_outputs
  results = graph.outputs[:num_outputs]
  ys = [y for y, use in zip(results, given, strict=True) if use]
  ys += graph.outputs[num_outputs : num_outputs + trace.function.num_losses]
  ys = [y for y in ys if differentiable(y)]
  num_inputs = len(flat_tensors(trace.call.inputs))
  data = graph.inputs[:num_inputs] if input_gradients else []
  weights = trace.function.weight_inputs(trained)
  used = [x for x in (*data, *weights) if differentiable(x)]
  if not ys or not used:
    none = (False,) * num_inputs
    return Backward(0, _kept_bytes(graph, results), none)
  data_ids = {id(x) for x in data}
  gradient = gradient_graph.differentiate(
    graph,
    ys,
    used,
    f'{trace.function.name}_backward',
    dense=[id(x) in data_ids for x in used],
  )
  reached = {
    id(x)
    for x, position in zip(used, gradient.positions, strict=True)
    if position is not None
  }
  residuals = [t for t in gradient.captures if t.graph is graph]
  return Backward(
    flops=graph_flops.graph_flops(gradient.graph, _frame(gradient, len(ys))),
    activation_bytes=_kept_bytes(graph, [*residuals, *results]),
    has_gradient=tuple(
      input_gradients and id(x) in reached for x in graph.inputs[:num_inputs]
    ),
  )


def _frame(gradient: gradient_graph.Gradient, num_ys: int) -> Frame:
  """What is known of the gradient's inputs: tensors of the forward pass."""
  forward = Frame()
  arguments: dict[int, tuple[tf.Tensor, Frame] | None] = {}
  for inner, outer in zip(
    gradient.graph.inputs[num_ys:], gradient.captures, strict=True
  ):
    arguments[id(inner)] = (outer, forward)
  return Frame(arguments)


def _kept_bytes(
  graph: graph_function.FuncGraph, tensors: Iterable[tf.Tensor]
) -> int:
  """Bytes of tensors, each memory once, that of the graph's inputs not at all.

  Args:
    graph: The graph.
    tensors: Tensors of it.
  """
  inputs = {id(t) for t in graph.inputs}
  memories = {}
  for tensor in tensors:
    memory = _memory(tensor)
    if id(memory) not in inputs:
      memories[id(memory)] = memory
  return sum(_bytes(t) for t in memories.values())


def _memory(tensor: tf.Tensor) -> tf.Tensor:
  """The tensor in whose memory this one lies."""
  while True:
    op, index = tensor.op, tensor.value_index
    if op.type in _SAME_MEMORY:
      tensor = op.inputs[index]
    elif op.type in CALLS:
      # A function may return what it was given.
      inner = functions.called(op, 'f')
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
