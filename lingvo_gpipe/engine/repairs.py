# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Changes to functions whose results would depend on what is around an op.

A cell's ops are in several functions: a forward pass with and without what the
backward pass reads, a backward pass with and without the forward pass. Where
TensorFlow computes an op otherwise in one than in another, the last bits of
results depend on schedule, cut and recomputation.

(1) AddN adds into the buffer of an input that nobody else is still to read, and
    begins with that input. Which one it is depends on what happened to run
    before. A sum of two has one value only:

      AddN(a, b, c)        --->  a + b + c,  b + a + c  or  c + b + a
      AddN(AddN(a, b), c)  --->  (a + b) + c

(2) oneDNN's kernels take two ops for one where they find them together:

      Pad, Conv2D                         if nobody else reads what is padded
      BiasAddGrad, Conv2DBackpropFilter   of outputs of one op, be they two

    The second even gives wrong gradients: it does not ask which outputs. With
    an Identity between, each runs for itself.

(3) oneDNN's kernel for the gradient of max pooling is used only where the
    pooling is in the same function, and read by it. TensorFlow's own, used
    elsewhere, adds in another order, takes another one of equal maxima in 3-D,
    and is much slower. So the gradient has a pooling of its own.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import atomic_function

from lingvo_gpipe.engine import graph_walks

_COPY = 'repaired'
# For each function that others call, what is to be called in its place.
_replacements: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def repair(
  definition: function_pb2.FunctionDef, called: Iterable[Any]
) -> list[Any]:
  """Repairs a function, and copies of those it calls, which stay as they are.

  Those are among `called`. Returns the functions that it calls now.
  """
  called = list(called)
  by_name = graph_walks.with_called(called)
  _repair(definition, by_name)
  return [_replacement(f, by_name) for f in called]


def _repair(
  definition: function_pb2.FunctionDef, by_name: dict[str, Any]
) -> bool:

  def replacement(name: str) -> str:
    if name not in by_name:
      return name
    other = _replacement(by_name[name], by_name)
    return str(graph_walks.definition_of(other).signature.name)

  num_nodes = len(definition.node_def)
  _split_sums(definition)
  _part_neighbours(definition)
  is_changed = len(definition.node_def) > num_nodes
  for node in definition.node_def:
    # Its gradient is found by its name.
    if node.op == 'SymbolicGradient':
      continue
    for value in graph_walks.called(node.attr):
      is_changed |= replacement(value.name) != value.name
      value.name = replacement(value.name)
    is_changed |= replacement(node.op) != node.op
    node.op = replacement(node.op)
  return is_changed


def _replacement(function: Any, by_name: dict[str, Any]) -> Any:
  """What is to be called in place of a function; itself if it is as wanted."""
  if function not in _replacements:
    definition = function_pb2.FunctionDef()
    definition.CopyFrom(graph_walks.definition_of(function))
    replacement = None
    if _repair(definition, by_name):
      definition.signature.name += f'_{_COPY}'
      library = context.context()
      library.add_function_def(definition)
      called = getattr(function, 'children', ())
      replacement = atomic_function.AtomicFunction(
        definition.signature.name,
        library,
        None,
        [_replacement(f, by_name) for f in called],
      )
    _replacements[function] = replacement
  return _replacements[function] or function


def _split_sums(definition: function_pb2.FunctionDef) -> None:
  """(1) Makes sums of more than two tensors chains."""
  for node in list(definition.node_def):
    count = node.attr['N'].i if node.op == 'AddN' else 0
    # Lists of tensors are sums, too, but not of numbers.
    if count <= 2 or node.attr['T'].type == tf.variant.as_datatype_enum:
      continue
    terms, control = list(node.input[:count]), list(node.input[count:])
    node.attr['N'].i = 2
    total = terms[0]
    for i, term in enumerate(terms[1:-1]):
      part = definition.node_def.add()
      part.CopyFrom(node)
      part.name = f'{node.name}/{_COPY}_{i}'
      part.input[:] = [total, term, *control]
      total = f'{part.name}:sum:0'
    node.input[:] = [total, terms[-1], *control]


def _part_neighbours(definition: function_pb2.FunctionDef) -> None:
  """(2) Puts an Identity before ops that would run as one with another."""

  def source(name: str) -> str:
    """The node, or the argument, that a tensor comes from."""
    return name.split(':')[0]

  nodes = list(definition.node_def)
  neighbours = {
    'Conv2D': {node.name for node in nodes if node.op == 'Pad'},
    'BiasAddGrad': {
      source(node.input[2])
      for node in nodes
      if node.op == 'Conv2DBackpropFilter'
    },
  }
  for node in nodes:
    if node.op in neighbours and source(node.input[0]) in neighbours[node.op]:
      identity = definition.node_def.add(
        name=f'{node.name}/{_COPY}', op='Identity', input=node.input[:1]
      )
      identity.attr['T'].CopyFrom(node.attr['T'])
      node.input[0] = f'{identity.name}:output:0'


# (3) For types of ops, what computes their gradients.
GRADIENTS = {
  'MaxPool': 'LingvoGPipeMaxPool',
  'MaxPool3D': 'LingvoGPipeMaxPool3D',
}


@tf.RegisterGradient(GRADIENTS['MaxPool'])
@tf.RegisterGradient(GRADIENTS['MaxPool3D'])
def _pooling_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  how = {name: op.get_attr(name) for name in ('ksize', 'strides')}
  for name in ('padding', 'data_format'):
    how[name] = op.get_attr(name).decode()
  if how['padding'] == 'EXPLICIT':
    how['explicit_paddings'] = op.get_attr('explicit_paddings')
  pool = getattr(tf.raw_ops, op.type)
  pool_gradient = getattr(tf.raw_ops, f'{op.type}Grad')
  inputs = op.inputs[0]
  return pool_gradient(
    orig_input=inputs,
    orig_output=pool(input=inputs, **how),
    grad=gradient,
    **how,
  )
