# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a graph shows of its ops: what repeats itself, and what it comes from.

An op that does not repeat itself would make the recomputed pass another one
than the pass that ran: random ops with a state, Python functions, queues and
iterators, the time, reads of what the cell itself writes. What such an op
returned is kept with the micro-batch, and the op does not run again:

```
  forward      x --> [ op ] --> y --> ...       y is kept
  recomputed                    y --> ...
```

TensorFlow knows which ops have a state. Of these, a few are harmless.
"""

from collections.abc import (
  Callable,
  Container,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import auto_control_deps_utils

from lingvo_gpipe.engine.tensors import differentiable

# Reads of a resource; they repeat themselves as long as nothing writes to it.
READS = frozenset(auto_control_deps_utils.RESOURCE_READ_OPS) | {
  'IsResourceHandleRefCounting',
  'LookupTableExportV2',
  'LookupTableFindV2',
  'LookupTableSizeV2',
  'VarIsInitializedOp',
}

# They have a state, but do no more than name a resource, or check.
_HARMLESS = READS | {
  'Assert',
  'CheckNumerics',
  'CheckNumericsV2',
  'DeviceIndex',
  'Empty',
  'GuaranteeConst',
  'HashTable',
  'HashTableV2',
  'MutableDenseHashTableV2',
  'MutableHashTableOfTensorsV2',
  'MutableHashTableV2',
  'VarHandleOp',
  '_Arg',
  '_Retval',
}

# They are as harmless as the functions that they call.
_CALLS = frozenset(
  ('Case', 'If', 'PartitionedCall', 'StatefulPartitionedCall', 'While')
)


_READS_OF_VARIABLES = frozenset(
  {'ReadVariableOp', 'ResourceGather', 'ResourceGatherNd', 'VariableV2'}
)


class Repeatable:
  """Tells the ops of a graph that give the same again from the others."""

  def __init__(self, graph: tf.Graph):
    """Looks at a graph."""
    self._definitions = definitions(graph)
    self._functions: dict[str, str] = {}
    self._written = {
      id(_handle(t))
      for op in graph.get_operations()
      if self._may_write(op)
      for t in op.inputs
      if t.dtype == tf.resource
    }

  def culprit(self, op: tf.Operation) -> str:
    """The type of the op, or of one it calls, that does not; '' if it does."""
    if not op._is_stateful:
      return ''
    if op.type not in READS:
      found = self._culprit(op.type, op.node_def.attr)
      if found or not self._is_call(op.type):
        return found
    # What it reads may be another value then.
    written = any(id(_handle(t)) in self._written for t in op.inputs)
    return op.type if written else ''

  def _may_write(self, op: tf.Operation) -> bool:
    if op.type in READS or op.type == 'Identity':
      return False
    # A call in which all is harmless only reads.
    is_call = self._is_call(op.type)
    return not is_call or bool(self._culprit(op.type, op.node_def.attr))

  def _is_call(self, op_type: str) -> bool:
    return op_type in _CALLS or op_type in self._definitions

  def _culprit(self, op_type: str, attributes: Any) -> str:
    if op_type in self._definitions:
      return self._in_function(op_type)
    if op_type in _CALLS:
      found = (self._in_function(f.name) for f in called(attributes))
      return next(filter(None, found), '')
    return op_type if _has_state(op_type) else ''

  def _in_function(self, name: str) -> str:
    if name not in self._functions:
      self._functions[name] = ''
      definition = self._definitions.get(name)
      for node in definition.node_def if definition else ():
        culprit = self._culprit(node.op, node.attr)
        if culprit:
          self._functions[name] = culprit
          break
    return self._functions[name]


def _handle(tensor: tf.Tensor) -> tf.Tensor:
  """The handle of a variable that this one is, too."""
  while tensor.op.type == 'Identity':
    tensor = tensor.op.inputs[0]
  return tensor


def called(attributes: Any) -> Iterator[Any]:
  """What names functions among a node's attributes."""
  for value in attributes.values():
    if value.HasField('func'):
      yield value.func
    yield from value.list.func


def definitions(graph: tf.Graph) -> dict[str, function_pb2.FunctionDef]:
  """The FunctionDefs of all functions that `graph` may call, by name."""
  functions = with_called(graph._functions.values())
  return {name: definition_of(f) for name, f in functions.items()}


def with_called(functions: Iterable[Any]) -> dict[str, Any]:
  """The functions, and all that these call, by name."""
  found: dict[str, Any] = {}
  pending = list(functions)
  while pending:
    function = pending.pop()
    name = definition_of(function).signature.name
    if name not in found:
      found[name] = function
      pending.extend(getattr(function, 'children', ()))
  return found


def definition_of(function: Any) -> function_pb2.FunctionDef:
  """The definition of a function of any of TensorFlow's classes."""
  cached = getattr(function, 'cached_definition', None)
  return function.definition if cached is None else cached


def _has_state(op_type: str) -> bool:
  if op_type in _HARMLESS:
    return False
  definition = tf.get_default_graph().op_def_for_type(op_type)
  return bool(definition.is_stateful)


def unrepeatable(graph: tf.Graph) -> dict[tf.Operation, str]:
  """The ops that do not repeat themselves, and the type that is why."""
  repeatable = Repeatable(graph)
  culprits = {op: repeatable.culprit(op) for op in graph.get_operations()}
  return {op: culprit for op, culprit in culprits.items() if culprit}


# They take no memory of their own, or next to none, or the other way round can
# be had of what takes no more.
_FREE = frozenset(
  (
    'Cast',
    'Const',
    'EnsureShape',
    'ExpandDims',
    'Identity',
    'PlaceholderWithDefault',
    'Reshape',
    'Shape',
    'ShapeN',
    'Squeeze',
    'StopGradient',
  )
)


def free_again(
  kept: Sequence[tf.Tensor], given: Container[tf.Operation]
) -> set[tf.Operation]:
  """The ops of some kept tensors that can run again, so they need not be kept.

  They take next to no time, and what they read is kept as well, or given.
  """
  at_hand = {id(t) for t in kept}
  free: set[tf.Operation] = set()
  for op in sorted({t.op for t in kept}, key=lambda op: op._id):
    if op.type in _FREE and all(
      id(t) in at_hand or t.op in given or t.op.type == 'Const'
      for t in op.inputs
    ):
      free.add(op)
  return free


# -- Random ops without a state.


def unseeded(
  graph: tf.Graph, seeds: Sequence[tf.Operation]
) -> tf.Operation | None:
  """The first stateless random op whose seeds depend on none of `seeds`."""
  known = definitions(graph)
  stateless = _StatelessRandomOps(known)
  seeded: set[str] | None = None
  for op in graph.get_operations():
    # To read an op's attributes takes time, and without functions they say
    # nothing.
    if not stateless.in_op(op.type, op.node_def.attr if known else {}):
      continue
    if seeded is None:
      # What a stateful op returns is another seed for each micro-batch.
      seeded = _reached_from([*seeds, *unrepeatable(graph)])
    if op.name not in seeded:
      return op
  return None


class _StatelessRandomOps:
  """Finds stateless random ops, in functions that an op calls too."""

  def __init__(self, definitions: Mapping[str, Any]):
    self._definitions = definitions
    self._known: dict[str, bool] = {}

  def in_op(self, op_type: str, attributes: Any) -> bool:
    return (
      _is_stateless_random(op_type)
      or self._in_function(op_type)
      or any(self._in_function(f.name) for f in called(attributes))
    )

  def _in_function(self, name: str) -> bool:
    if name not in self._known:
      self._known[name] = False
      definition = self._definitions.get(name)
      self._known[name] = any(
        self.in_op(node.op, node.attr)
        for node in (definition.node_def if definition else ())
      )
    return self._known[name]


def _is_stateless_random(op_type: str) -> bool:
  return op_type.startswith(
    ('StatelessRandom', 'StatelessTruncated', 'StatelessParameterized')
  ) or op_type in ('StatelessMultinomial', 'StatelessShuffle')


def _reached_from(ops: Iterable[tf.Operation]) -> set[str]:
  """Names of the ops that depend on any of `ops` by way of integers.

  Seeds are integers. A layer behind one that draws numbers depends on that
  one's seeds too, by its float inputs; that makes its own no better.
  """
  pending = list(ops)
  reached = {op.name for op in pending}
  while pending:
    for output in pending.pop().outputs:
      if not output.dtype.is_integer:
        continue
      for consumer in output.consumers():
        if consumer.name not in reached:
          reached.add(consumer.name)
          pending.append(consumer)
  return reached


# -- Weights.


def may_need_gradients(
  tensors: Sequence[tf.Tensor],
  is_trained: Callable[[str], bool] = lambda name: True,
) -> bool:
  """Whether tensors depend on a weight, as far as the graph shows.

  The gradient of the first layer's input costs as much as that of its weights,
  and is mostly not wanted: the input is data. TensorFlow does not say what a
  gradient function's results will be used for, so this looks for a variable in
  what the input is computed from: one that is trained, by its name with ':0'.
  Inside `tf.function` whatever comes from outside may depend on one. A graph
  that asks for gradients of data all the same gets them, by extra tasks.
  """
  tensors = [t for t in tensors if differentiable(t)]
  if not all(tf.is_symbolic_tensor(t) for t in tensors):
    return True
  in_function = tf.get_default_graph().building_function
  pending = [t.op for t in tensors]
  seen = set()
  while pending:
    op = pending.pop()
    if op.name in seen:
      continue
    seen.add(op.name)
    if op.type in _READS_OF_VARIABLES:
      if is_trained(_variable_name(op)):
        return True
      continue
    if in_function and op.type == 'Placeholder':
      dtype = op.outputs[0].dtype.base_dtype
      if dtype.is_floating or dtype.is_complex:
        return True
    pending.extend(t.op for t in op.inputs)
  return False


def _variable_name(read: tf.Operation) -> str:
  """The name of the variable that an op reads."""
  op = read if read.type == 'VariableV2' else read.inputs[0].op
  while op.type in ('Enter', 'Identity') and op.inputs:
    op = op.inputs[0].op
  return f'{op.name}:0'
