# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many floating-point operations a traced graph does.

Only what the outputs need counts, in functions too. A loop counts as often as
it runs, a conditional as its dearest branch.
"""

from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import functions, op_flops
from lingvo_gpipe.costing.static_values import (
  CALLS,
  LOOPS,
  Frame,
  call_frame,
  loop_parts,
  trip_count,
)
from lingvo_gpipe.engine import graph_function

_CONDITIONALS = ('Case', 'If', 'StatelessCase', 'StatelessIf')

# What has been logged already.
_logged: set[str] = set()


def graph_flops(
  graph: graph_function.FuncGraph, frame: Frame | None = None
) -> int:
  """Counts the FLOPs of one run of a graph.

  What cannot be counted is logged, once for each type of op, and counts 0.

  Args:
    graph: The graph; shapes are static.
    frame: What is known of its inputs; they are zeros by default.
  """
  frame = frame or Frame()
  wanted = [*graph.outputs, *(getattr(graph, 'control_outputs', None) or ())]
  return sum(_flops(op, frame) for op in graph_function.needed(wanted))


def _flops(op: tf.Operation, frame: Frame) -> int:
  if op.type in CALLS:
    graph = functions.called(op, 'f')
    return graph_flops(graph, call_frame(graph, op.inputs, frame))
  if op.type in LOOPS:
    return _loop_flops(op, frame)
  if op.type in _CONDITIONALS:
    inputs = list(op.inputs)[1:]
    return max(
      graph_flops(graph, call_frame(graph, inputs, frame))
      for graph in functions.called_branches(op)
    )
  try:
    flops = op_flops.op_flops(op)
  except op_flops.UnknownSizeError as error:
    _log_once(
      op.type,
      f'FLOPs of {op.type} are not counted where a size is not known '
      f'beforehand: {error}.',
    )
    return 0
  if flops is None:
    _log_once(
      op.type,
      f'FLOPs of {op.type} are not counted; {op.name} is the first.',
    )
    return 0
  return flops


def _loop_flops(op: tf.Operation, frame: Frame) -> int:
  trips = trip_count(op, frame)
  if trips is None:
    trips = 1
    _log_once(
      f'{op.type} trips',
      f'How often loop {op.name} runs is not known beforehand; its FLOPs are '
      'counted once, as are those of all loops of which it is not known.',
    )
  cond, body = (graph_flops(*part) for part in loop_parts(op, frame))
  return trips * body + (trips + 1) * cond


def _log_once(key: Any, message: str) -> None:
  if key not in _logged:
    _logged.add(key)
    tf.logging.info('%s', message)
