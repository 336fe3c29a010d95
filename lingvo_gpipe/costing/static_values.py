# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small tensors of a traced graph, and trip counts, without running the graph.

How often a loop runs is a number in the graph: a dimension, say, or a dimension
less the padding at the end. Inputs are taken to be zeros, with which Lingvo's
paddings say that there is none.

Loops whose trip count is known go on while comparisons hold, all of them, of
variables that grow by the same number each time; a comparison that is none of
these may end the loop earlier. What a loop leaves depends on its trip count,
which depends on values, so the two are computed here together.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function_def_to_graph

from lingvo_gpipe.costing.cost_session import session_config
from lingvo_gpipe.engine import graph_function

# Larger tensors, and values that need more ops than this, are not computed.
_MAX_ELEMENTS = 2**20
_MAX_OPS = 1000

CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
LOOPS = ('While', 'StatelessWhile')

# Comparisons: the sign of b - a that keeps a loop going, and whether 0 does.
_ORDERED = {
  'Less': (1, False),
  'LessEqual': (1, True),
  'Greater': (-1, False),
  'GreaterEqual': (-1, True),
}
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
      graph = called(op, 'f')
      inner = call_frame(graph, op.inputs, frame)
      return self.tensor(graph.outputs[tensor.value_index], inner)
    if op.type in LOOPS:
      value = _final_value(op, tensor.value_index, frame)
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


# -- Loops.


@dataclasses.dataclass(frozen=True)
class _Line:
  """A number that is start + step i after i times."""

  start: Fraction
  step: Fraction


def trip_count(op: tf.Operation, frame: Frame) -> int | None:
  """How often the body of a While op runs; None if that is not to be known."""
  return _Loop(op, frame).trips()


def _final_value(
  op: tf.Operation, index: int, frame: Frame
) -> np.ndarray | float | None:
  """What a loop variable is in the end; None if that is not to be known."""
  loop = _Loop(op, frame)
  if loop.is_constant(index):
    return evaluate(op.inputs[index], frame)
  line = loop.variable(index)
  trips = loop.trips()
  if line is None or trips is None:
    return None
  value = line.start + trips * line.step
  return int(value) if value.denominator == 1 else float(value)


class _Loop:
  """A While op in its frame."""

  def __init__(self, op: tf.Operation, frame: Frame):
    self._op = op
    self._frame = frame
    self.cond = called(op, 'cond')
    self.body = called(op, 'body')

  def trips(self) -> int | None:
    counts = []
    for test in _conjunction(self.cond.outputs[0]):
      count = self._until(test)
      if count is not None:
        counts.append(count)
    return min(counts) if counts else None

  def is_constant(self, index: int) -> bool:
    """Whether a loop variable keeps its value."""
    return _source(self.body.outputs[index]) is self.body.inputs[index]

  def variable(self, index: int) -> _Line | None:
    """How a loop variable grows."""
    start = _scalar(evaluate(self._op.inputs[index], self._frame))
    step = self._step(index)
    return None if start is None or step is None else _Line(start, step)

  def _step(self, index: int) -> Fraction | None:
    before = self.body.inputs[index]
    after = _source(self.body.outputs[index])
    if after is before:
      return Fraction(0)
    if after.op.type not in ('Add', 'AddV2', 'Sub'):
      return None
    a, b = map(_source, after.op.inputs)
    if b is before and after.op.type != 'Sub':
      a, b = b, a
    if a is not before:
      return None
    step = _scalar(evaluate(b, self.frame_of(self.body)))
    return -step if step is not None and after.op.type == 'Sub' else step

  def frame_of(self, graph: graph_function.FuncGraph) -> Frame:
    """The frame of the body or the condition.

    Of the loop's variables only constant ones are known in it.
    """
    known = [self.is_constant(i) for i in range(len(self.body.inputs))]
    return call_frame(graph, self._op.inputs, self._frame, known)

  def _until(self, test: tf.Tensor) -> int | None:
    """How often a comparison holds, from the first time on."""
    if test.op.type not in _ORDERED:
      return None
    sign, or_equal = _ORDERED[test.op.type]
    a, b = (self._line(t) for t in test.op.inputs)
    if a is None or b is None:
      return None
    # It holds while gap - i step is above 0, or is 0 and that is enough.
    gap = sign * (b.start - a.start)
    step = sign * (a.step - b.step)
    if gap < 0 or (gap == 0 and not or_equal):
      return 0
    if step <= 0:
      return None
    return math.floor(gap / step) + 1 if or_equal else math.ceil(gap / step)

  def _line(self, tensor: tf.Tensor) -> _Line | None:
    """How a number in the condition changes from time to time."""
    tensor = _source(tensor)
    for index, variable in enumerate(self.cond.inputs):
      if variable is tensor:
        return self.variable(index)
    if tensor.op.type in ('Add', 'AddV2', 'Sub'):
      a, b = (self._line(t) for t in tensor.op.inputs)
      if a is not None and b is not None:
        sign = -1 if tensor.op.type == 'Sub' else 1
        return _Line(a.start + sign * b.start, a.step + sign * b.step)
    value = _scalar(evaluate(tensor, self.frame_of(self.cond)))
    return None if value is None else _Line(value, Fraction(0))


def loop_parts(
  op: tf.Operation, frame: Frame
) -> list[tuple[graph_function.FuncGraph, Frame]]:
  """The condition and the body of a While op, each with its frame."""
  loop = _Loop(op, frame)
  return [(graph, loop.frame_of(graph)) for graph in (loop.cond, loop.body)]


def _conjunction(tensor: tf.Tensor) -> list[tf.Tensor]:
  """The tests that a test is made of by `and`."""
  tensor = _source(tensor)
  if tensor.op.type != 'LogicalAnd':
    return [tensor]
  return [test for t in tensor.op.inputs for test in _conjunction(t)]


def _source(tensor: tf.Tensor) -> tf.Tensor:
  """The tensor whose value this one has."""
  while tensor.op.type in ('Identity', 'Cast', 'StopGradient'):
    tensor = tensor.op.inputs[0]
  return tensor


def _scalar(value: np.ndarray | None) -> Fraction | None:
  if value is None or np.size(value) != 1:
    return None
  number = np.asarray(value).item()
  return Fraction(number) if math.isfinite(number) else None


# -- The graphs of the functions that an op calls.


def called(op: tf.Operation, attribute: str) -> graph_function.FuncGraph:
  """The graph of the function that an attribute of an op names."""
  name = op.get_attr(attribute).name
  return _graph_of(name, op, list(op.inputs))


def called_branches(op: tf.Operation) -> list[graph_function.FuncGraph]:
  """The graphs of a conditional's branches."""
  inputs = list(op.inputs)[1:]
  if op.type in ('If', 'StatelessIf'):
    names = [op.get_attr('then_branch').name, op.get_attr('else_branch').name]
  else:
    names = [branch.name for branch in op.get_attr('branches')]
  return [_graph_of(name, op, inputs) for name in names]


def _graph_of(
  name: str, op: tf.Operation, inputs: list[tf.Tensor]
) -> graph_function.FuncGraph:
  """A function's graph, with static shapes for these inputs."""
  function = _find(name, op.graph)
  graph = getattr(function, 'graph', None)
  if graph is not None and all(
    inner.shape.is_fully_defined() or not outer.shape.is_fully_defined()
    for inner, outer in zip(graph.inputs, inputs, strict=True)
  ):
    return graph
  with op.graph.as_default():
    return function_def_to_graph.function_def_to_graph(
      _without_shapes(function.cached_definition),
      input_shapes=[t.shape for t in inputs],
    )


def _without_shapes(definition: Any) -> Any:
  """A FunctionDef without the shapes that it was traced for, a copy."""
  copy = type(definition)()
  copy.CopyFrom(definition)
  for part in (*copy.arg_attr.values(), *copy.node_def):
    part.attr.pop('_output_shapes', None)
  return copy


def _find(name: str, graph: Any) -> Any:
  """The function of a name in a graph's library, or one around it."""
  while graph is not None:
    function = graph._get_function(name)
    if function is not None:
      return function
    graph = getattr(graph, 'outer_graph', None)
  raise KeyError(f'There is no function {name}.')
