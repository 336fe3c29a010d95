# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small tensors of a traced graph, computed without running the graph.

How often a loop runs is a number in the graph: a dimension, say, or a dimension
less the padding at the end. Inputs are taken to be zeros, with which Lingvo's
paddings say that there is none.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import functions
from lingvo_gpipe.costing.cost_session import session_config

# Larger tensors, and values that need more ops than this, are not computed.
_MAX_ELEMENTS = 2**20
_MAX_OPS = 1000

CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
LOOPS = ('While', 'StatelessWhile')

_HANDED_ON = ('Identity', 'IdentityN', 'PreventGradient', 'StopGradient')


@dataclasses.dataclass
class Frame:
  """A graph that runs, and what it is called with.

  Attributes:
    arguments: Where an input of the graph comes from, by its id: a tensor and
      that tensor's frame; None if its value is not to be known.
    is_top: Whether inputs without an entry are the layer's own: zeros.
  """

  arguments: dict[int, tuple[tf.Tensor, 'Frame'] | None] = dataclasses.field(
    default_factory=dict
  )
  is_top: bool = True


def call_frame(
  graph: Any, op_inputs: Any, frame: Frame, known: Any = None
) -> Frame:
  """The frame of a function's graph that an op calls.

  Args:
    graph: The function's graph.
    op_inputs: What it is called with.
    frame: The frame of the op.
    known: For each input, whether its value may be used; None for all.
  """
  known = [True] * len(op_inputs) if known is None else known
  return Frame(
    {
      id(inner): (outer, frame) if use else None
      for inner, outer, use in zip(graph.inputs, op_inputs, known, strict=True)
    },
    is_top=False,
  )


class _NotKnownError(Exception):
  """The value cannot be known, or is not worth it."""


def evaluate(tensor: tf.Tensor, frame: Frame) -> np.ndarray | None:
  """A tensor's value; None if it is not to be known beforehand."""
  scratch = tf.Graph()
  try:
    with scratch.as_default():
      result = _Copy(scratch).tensor(tensor, frame)
      with tf.Session(graph=scratch, config=session_config()) as session:
        return np.asarray(session.run(result))
  except (_NotKnownError, tf.errors.OpError, ValueError, TypeError):
    return None


class _Copy:
  """Copies the ops before a tensor to another graph, functions written out."""

  def __init__(self, graph: tf.Graph):
    self._graph = graph
    self._copies: dict[tuple[int, int], list[tf.Tensor]] = {}

  def tensor(self, tensor: tf.Tensor, frame: Frame) -> tf.Tensor:
    _check_small(tensor)
    op = tensor.op
    if op.type in _HANDED_ON:
      return self.tensor(op.inputs[tensor.value_index], frame)
    if op.type == 'Placeholder':
      return self._argument(tensor, frame)
    if op.type in CALLS:
      graph = functions.called(op, 'f')
      inner = call_frame(graph, op.inputs, frame)
      return self.tensor(graph.outputs[tensor.value_index], inner)
    if op.type in LOOPS:
      # Trip counts are values, and values depend on trip counts.
      from lingvo_gpipe.costing import trip_count

      value = trip_count.final_value(op, tensor.value_index, frame)
      if value is None:
        raise _NotKnownError
      return tf.constant(value, tensor.dtype)
    known = _from_shape(op)
    if known is not None:
      return tf.constant(known, tensor.dtype)
    return self._op(op, frame)[tensor.value_index]

  def _argument(self, tensor: tf.Tensor, frame: Frame) -> tf.Tensor:
    source = frame.arguments.get(id(tensor))
    if source is not None:
      return self.tensor(*source)
    if frame.is_top and id(tensor) not in frame.arguments:
      return tf.zeros(tensor.shape, tensor.dtype)
    raise _NotKnownError

  def _op(self, op: tf.Operation, frame: Frame) -> list[tf.Tensor]:
    key = (id(op), id(frame))
    if key not in self._copies:
      if op.op_def.is_stateful or len(self._copies) > _MAX_OPS:
        raise _NotKnownError
      inputs = [self.tensor(t, frame) for t in op.inputs]
      attributes = {
        name: value
        for name, value in op.node_def.attr.items()
        if not name.startswith('_')
      }
      if any(_names_function(value) for value in attributes.values()):
        raise _NotKnownError
      copy = self._graph.create_op(
        op.type, inputs, [t.dtype for t in op.outputs], attrs=attributes
      )
      self._copies[key] = list(copy.outputs)
    return self._copies[key]


def _check_small(tensor: tf.Tensor) -> None:
  size = tensor.shape.num_elements()
  if size is None or size > _MAX_ELEMENTS:
    raise _NotKnownError


def _names_function(value: Any) -> bool:
  return value.HasField('func') or bool(value.list.func)


def _from_shape(op: tf.Operation) -> Any:
  """The value of an op that asks for a known shape."""
  if op.type not in ('Shape', 'Size', 'Rank'):
    return None
  shape = op.inputs[0].shape
  if op.type == 'Rank':
    return shape.rank
  if not shape.is_fully_defined():
    return None
  return shape.as_list() if op.type == 'Shape' else shape.num_elements()
