# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How often a loop runs.

Known are loops that go on while comparisons hold, all of them, of variables
that grow by the same number each time; a comparison that is none of these may
end the loop earlier.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import functions
from lingvo_gpipe.costing.static_values import (
  Frame,
  call_frame,
  evaluate,
)
from lingvo_gpipe.engine import graph_function

_ORDERED = {
  'Less': (1, False),
  'LessEqual': (1, True),
  'Greater': (-1, False),
  'GreaterEqual': (-1, True),
}


@dataclasses.dataclass(frozen=True)
class _Line:
  """A number that is start + step i after i times."""

  start: Fraction
  step: Fraction


def trip_count(op: tf.Operation, frame: Frame) -> int | None:
  """How often the body of a While op runs; None if that is not to be known."""
  return _Loop(op, frame).trips()


def final_value(
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
    self.cond = functions.called(op, 'cond')
    self.body = functions.called(op, 'body')

  def trips(self) -> int | None:
    found = []
    for test in _conjunction(self.cond.outputs[0]):
      count = self._until(test)
      if count is not None:
        found.append(count)
    return min(found) if found else None

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


def parts(
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
