# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many bytes it takes to keep tensors of a traced graph."""

from collections.abc import Iterable

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import handle_data_util

from lingvo_gpipe.costing import functions, specs, trip_count
from lingvo_gpipe.costing.static_values import CALLS, LOOPS, Frame
from lingvo_gpipe.engine import graph_function

# Ops whose output is their input's memory.
_SAME_MEMORY = frozenset(
  (
    *('CheckNumerics', 'EnsureShape', 'ExpandDims', 'Identity', 'IdentityN'),
    *('PlaceholderWithDefault', 'PreventGradient', 'Reshape', 'Squeeze'),
    *('Snapshot', 'StopGradient'),
  )
)


def kept_bytes(
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
  return specs.spec_bytes(tensor)


def _list_bytes(tensor: tf.Tensor) -> int:
  """Bytes of a list of tensors in which a loop keeps one for each time."""
  if tensor.op.type not in LOOPS:
    return 0
  data = handle_data_util.get_resource_handle_data(tensor)
  trips = trip_count.trip_count(tensor.op, Frame())
  if data is None or not data.is_set or not trips:
    return 0
  return trips * sum(
    specs.spec_bytes(tf.TensorSpec(element.shape, element.dtype))
    for element in data.shape_and_type
  )
