# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The graphs of the functions that an op calls."""

from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function_def_to_graph

from lingvo_gpipe.engine import graph_function


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
