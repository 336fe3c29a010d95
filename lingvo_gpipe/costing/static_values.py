# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small tensors of a traced graph, and trip counts, without running the graph.

How often a loop runs is a number in the graph: a dimension, say, or a dimension
less the padding at the end. Inputs are taken to be zeros, with which Lingvo's
paddings say that there is none.

The ops before a tensor are copied to a graph of their own, functions written
out, and run there. Of a loop and its condition only scalars run; others may end
the loop earlier:

```
  while i < n and sum(y) < 1: i, y = i + 1, f(y)  ->  while i < n: i = i + 1
```
"""

import contextlib
import dataclasses
from collections.abc import Container, Iterable, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import function_def_to_graph

from lingvo_gpipe.costing.weights import session_config
from lingvo_gpipe.engine.graph_function import FuncGraph
from lingvo_gpipe.engine.graph_walks import needed

# What needs more is not computed.
_MAX_ELEMENTS = 2**20
_MAX_OPS = 1000
_MAX_TRIPS = 2**16

CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
LOOPS = ('While', 'StatelessWhile')
CONDITIONALS = ('Case', 'If', 'StatelessCase', 'StatelessIf')
# The attributes of these that name functions.
_FUNCTIONS = ('f', 'cond', 'body', 'branches', 'then_branch', 'else_branch')
_HANDED_ON = ('Identity', 'IdentityN', 'PreventGradient', 'StopGradient')


@dataclasses.dataclass(eq=False)
class Frame:
  """A graph that runs, and what is known of its inputs.

  Attributes:
    arguments: Where an input comes from, by its id: a tensor and its frame.
      Others are not known; where this is None all are zeros.
    trips: How often its loops run, as far as that has been asked.
  """

  arguments: dict[int, tuple[tf.Tensor, 'Frame']] | None = None
  trips: dict[tf.Operation, int | None] = dataclasses.field(
    default_factory=dict
  )


def call_frame(
  graph: FuncGraph,
  op_inputs: Iterable[tf.Tensor],
  frame: Frame,
  unknown: Container[int] = (),
) -> Frame:
  """The frame of what an op calls; its inputs in `unknown` are not known."""
  arguments = {
    id(inner): (outer, frame)
    for i, (inner, outer) in enumerate(
      zip(graph.inputs, op_inputs, strict=True)
    )
    if i not in unknown
  }
  return Frame(arguments)


class _NotKnownError(Exception):
  """The value cannot be known, or is not worth it."""


_UNKNOWN = (_NotKnownError, tf.errors.OpError, ValueError, TypeError)


class _Copy:
  """Copies the ops before tensors to the current graph."""

  def __init__(self, given: dict[int, tf.Tensor] | None = None):
    self._given = given or {}
    self._copies: dict[tuple[tf.Operation, Frame], list[tf.Tensor]] = {}

  def tensor(self, tensor: tf.Tensor, frame: Frame) -> tf.Tensor:
    if id(tensor) in self._given:
      return self._given[id(tensor)]
    size = tensor.shape.num_elements()
    if size is None or size > _MAX_ELEMENTS:
      raise _NotKnownError
    op, index = tensor.op, tensor.value_index
    if op.type in _HANDED_ON:
      return self.tensor(op.inputs[index], frame)
    if op.type == 'Placeholder':
      return self._argument(tensor, frame)
    if op.type in CALLS:
      [graph] = called(op)
      inner = call_frame(graph, op.inputs, frame)
      return self.tensor(graph.outputs[index], inner)
    if op.type in LOOPS:
      return tf.constant(Loop(op, frame).final(index), tensor.dtype)
    known = tf.get_static_value(tensor)
    if known is not None:
      return tf.constant(known, tensor.dtype)
    return self._op(op, frame)[index]

  def _argument(self, tensor: tf.Tensor, frame: Frame) -> tf.Tensor:
    if frame.arguments is None:
      return tf.zeros(tensor.shape, tensor.dtype)
    if id(tensor) not in frame.arguments:
      raise _NotKnownError
    return self.tensor(*frame.arguments[id(tensor)])

  def _op(self, op: tf.Operation, frame: Frame) -> list[tf.Tensor]:
    key = (op, frame)
    if key not in self._copies:
      attributes = {
        name: value
        for name, value in op.node_def.attr.items()
        if not name.startswith('_')
      }
      if (
        op.op_def.is_stateful
        or len(self._copies) > _MAX_OPS
        or any(x.HasField('func') or x.list.func for x in attributes.values())
      ):
        raise _NotKnownError
      inputs = [self.tensor(t, frame) for t in op.inputs]
      copy = tf.get_default_graph().create_op(
        op.type, inputs, [t.dtype for t in op.outputs], attrs=attributes
      )
      self._copies[key] = list(copy.outputs)
    return self._copies[key]


class Loop:
  """A While op in its frame.

  Attributes:
    parts: The graphs of its condition and its body, each with its frame, which
      knows constant variables alone.
  """

  def __init__(self, op: tf.Operation, frame: Frame):
    self._op, self._frame = op, frame
    self._cond, self._body = called(op)
    variables = zip(self._body.inputs, self._body.outputs, strict=True)
    self._changing = {
      i
      for i, (before, after) in enumerate(variables)
      if _source(after) is not before
    }
    self.parts = [
      (graph, call_frame(graph, op.inputs, frame, self._changing))
      for graph in (self._cond, self._body)
    ]

  def trips(self) -> int | None:
    """How often the body runs; None if that is not to be known."""
    known = self._frame.trips
    if self._op not in known:
      known[self._op] = None
      with contextlib.suppress(*_UNKNOWN):
        known[self._op] = self._run(set())[0]
    return known[self._op]

  def final(self, index: int) -> np.ndarray:
    """What one of its variables is in the end."""
    if index in self._changing:
      return self._run({index})[1][index]
    return _values([self._op.inputs[index]], self._frame)[0]

  def _run(self, wanted: set[int]) -> tuple[int, dict[int, np.ndarray]]:
    """How often it runs, and what some of its variables are in the end."""
    needs, possible = self._closed(wanted), []
    for test in _conjunction(self._cond.outputs[0]):
      with contextlib.suppress(*_UNKNOWN):
        needs |= self._closed(self._read(self._cond, [test]))
        possible.append(test)
    if not needs:
      raise _NotKnownError
    variables = sorted(needs)
    values = _values([self._op.inputs[i] for i in variables], self._frame)
    (_, cond_frame), (_, body_frame) = self.parts
    with tf.Graph().as_default() as scratch:
      given = [tf.placeholder(x.dtype, x.shape) for x in values]
      copy = _Copy(
        {
          id(graph.inputs[i]): x
          for graph in (self._cond, self._body)
          for i, x in zip(variables, given, strict=True)
        }
      )
      step = [copy.tensor(self._body.outputs[i], body_frame) for i in variables]
      tests = []
      for test in possible:
        with contextlib.suppress(*_UNKNOWN):
          tests.append(copy.tensor(test, cond_frame))
      if tests:
        with tf.Session(graph=scratch, config=session_config()) as session:
          run = session.make_callable([tests, step], feed_list=given)
          for trips in range(_MAX_TRIPS):
            goes_on, following = run(*values)
            if not all(goes_on):
              return trips, dict(zip(variables, values, strict=True))
            values = following
    raise _NotKnownError

  def _closed(self, variables: set[int]) -> set[int]:
    """Variables, and those that these depend on; all have to be scalars."""
    closed: set[int] = set()
    while variables:
      if any(self._body.inputs[i].shape.rank != 0 for i in variables):
        raise _NotKnownError
      closed |= variables
      after = [self._body.outputs[i] for i in variables]
      variables = self._read(self._body, after) - closed
    return closed

  def _read(self, graph: FuncGraph, tensors: Sequence[tf.Tensor]) -> set[int]:
    ops = set(needed(tensors))
    return {i for i in self._changing if graph.inputs[i].op in ops}


def _values(tensors: Sequence[tf.Tensor], frame: Frame) -> list[np.ndarray]:
  with tf.Graph().as_default() as scratch:
    copy = _Copy()
    copies = [copy.tensor(t, frame) for t in tensors]
    with tf.Session(graph=scratch, config=session_config()) as session:
      return [np.asarray(value) for value in session.run(copies)]


def _conjunction(tensor: tf.Tensor) -> list[tf.Tensor]:
  """The tests that a test is made of by `and`."""
  tensor = _source(tensor)
  if tensor.op.type != 'LogicalAnd':
    return [tensor]
  return [test for t in tensor.op.inputs for test in _conjunction(t)]


def _source(tensor: tf.Tensor) -> tf.Tensor:
  """The tensor whose value this one has."""
  while tensor.op.type in ('Identity', 'StopGradient'):
    tensor = tensor.op.inputs[0]
  return tensor


def called(op: tf.Operation) -> list[FuncGraph]:
  """The graphs of the functions that an op calls, with static shapes.

  Of a loop these are the condition and the body, else branches or one function.
  """
  inputs = list(op.inputs)[op.type in CONDITIONALS :]
  attributes = op.node_def.attr
  return [
    _graph_of(function.name, op.graph, inputs)
    for name in _FUNCTIONS
    if name in attributes
    for function in attributes[name].list.func or [attributes[name].func]
  ]


def _graph_of(
  name: str, library: tf.Graph, inputs: Sequence[tf.Tensor]
) -> FuncGraph:
  """A function's graph: that of its trace, unless more shapes are known."""
  while (function := library._get_function(name)) is None:
    library = library.outer_graph
  graph = getattr(function, 'graph', None)
  if graph is not None and all(
    inner.shape.is_fully_defined() or not outer.shape.is_fully_defined()
    for inner, outer in zip(graph.inputs, inputs, strict=True)
  ):
    return graph
  definition = function_pb2.FunctionDef()
  definition.CopyFrom(function.cached_definition)
  for part in (*definition.arg_attr.values(), *definition.node_def):
    part.attr.pop('_output_shapes', None)
  with library.as_default():
    return function_def_to_graph.function_def_to_graph(
      definition, input_shapes=[t.shape for t in inputs]
    )
