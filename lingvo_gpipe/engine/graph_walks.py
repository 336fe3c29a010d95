# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a graph shows of its ops: what they need, and what repeats itself.

Random ops with a state, Python functions, queues, the time and reads of what
the cell itself writes do not. A few of the ops with a state are harmless.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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

# They only name a resource, or check; or are as harmless as what they call.
_HARMLESS = READS | {
  'Assert',
  'Case',
  'CheckNumerics',
  'CheckNumericsV2',
  'DeviceIndex',
  'Empty',
  'GuaranteeConst',
  'HashTable',
  'HashTableV2',
  'Identity',
  'If',
  'MutableDenseHashTableV2',
  'MutableHashTableOfTensorsV2',
  'MutableHashTableV2',
  'PartitionedCall',
  'StatefulPartitionedCall',
  'VarHandleOp',
  'While',
  '_Arg',
  '_Retval',
}

_READS_OF_VARIABLES = frozenset(
  {'ReadVariableOp', 'ResourceGather', 'ResourceGatherNd', 'VariableV2'}
)


def needed(
  ops_or_tensors: Iterable[Any], without: Container[tf.Operation] = ()
) -> list[tf.Operation]:
  """The ops that must run for some, `without` others, in graph order."""
  found: set[tf.Operation] = set()
  pending = [getattr(x, 'op', x) for x in ops_or_tensors]
  while pending:
    op = pending.pop()
    if op in found or op in without:
      continue
    found.add(op)
    pending += [t.op for t in op.inputs]
    pending += op.control_inputs
  return sorted(found, key=lambda op: op._id)


def read_of(
  results: Sequence[tf.Tensor], left_out: Container[tf.Operation]
) -> list[tf.Tensor]:
  """What others that some results need read of ops; results of these, too."""
  read = {id(t): t for t in results if t.op in left_out}
  for op in needed(results, left_out):
    read.update({id(t): t for t in op.inputs if t.op in left_out})
  return list(read.values())


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
  cached = getattr(function, 'cached_definition', None)
  return function.definition if cached is None else cached


class _Finder:
  def __init__(self, graph: tf.Graph, matches: Callable[[str], bool]):
    self.functions = definitions(graph)
    self._matches = matches
    self._known: dict[str, str] = {}

  def find(self, op_type: str, attributes: Any) -> str:
    """The op's type, or that of an op it calls, if it matches; or ''."""
    if op_type in self.functions:
      return self._in_function(op_type)
    if self._matches(op_type):
      return op_type
    found = (self._in_function(f.name) for f in called(attributes))
    return next(filter(None, found), '')

  def _in_function(self, name: str) -> str:
    if name not in self._known:
      self._known[name] = ''
      nodes = self.functions[name].node_def if name in self.functions else ()
      found = (self.find(node.op, node.attr) for node in nodes)
      self._known[name] = next(filter(None, found), '')
    return self._known[name]


def unrepeatable(graph: tf.Graph) -> dict[tf.Operation, str]:
  """The ops that do not repeat themselves, and the type that is why."""
  finder = _Finder(graph, _has_state)
  operations = graph.get_operations()
  stateful = [op for op in operations if op._is_stateful]
  culprits = {op: finder.find(op.type, op.node_def.attr) for op in stateful}
  # A call in which all is harmless only reads.
  readers = _HARMLESS | finder.functions.keys()
  written = {
    id(handle)
    for op in operations
    if op.type not in readers or culprits.get(op)
    for handle in _handles(op)
  }
  for op in stateful:
    # What it reads may be another value then.
    if any(id(handle) in written for handle in _handles(op)):
      culprits[op] = culprits[op] or op.type
  return {op: culprit for op, culprit in culprits.items() if culprit}


def _has_state(op_type: str) -> bool:
  if op_type in _HARMLESS:
    return False
  definition = tf.get_default_graph().op_def_for_type(op_type)
  return bool(definition.is_stateful)


def _handles(op: tf.Operation) -> Iterator[tf.Tensor]:
  for tensor in op.inputs:
    if tensor.dtype == tf.resource:
      while tensor.op.type == 'Identity':
        tensor = tensor.op.inputs[0]
      yield tensor


# They take next to no time, and no memory of their own or next to none.
_FREE = {
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
}


def stash(
  graph: tf.Graph, residuals: Sequence[tf.Tensor], kept: Sequence[range]
) -> tuple[list[tf.Tensor], set[tf.Operation]]:
  """What a recomputed pass takes from the first one; what it leaves out.

  It leaves out ops that would return something else when they run again, and
  those that are to be kept, of the given numbers:

  ```
    arguments --> [ kept ] --(1)--> [ again ] --> [ kept ] --(1)--> [ again ]
                     |                 |             |                 |
                    (2)            residuals        (2)            residuals
  ```

  (1) What runs again reads some of them; (2) the gradient reads others. Both
  are stashed. Ops without outputs are left out, too.
  """
  given = {t.op for t in graph.inputs}
  operations = graph.get_operations()
  wanted = {operations[i] for numbers in kept for i in numbers} - given
  wanted = {op for op in wanted if op.type != 'Const'}
  culprits = unrepeatable(graph).keys() & set(needed(residuals))
  read = read_of(residuals, culprits | wanted)
  at_hand = set(map(id, read))
  # What is made for free of what is kept as well, or given, runs again.
  again = {
    t.op
    for t in read
    if t.op.type in _FREE
    and all(
      id(x) in at_hand or x.op in given or x.op.type == 'Const'
      for x in t.op.inputs
    )
  }
  left_out = culprits | (wanted - again)
  return read_of(residuals, left_out), left_out


def unseeded(
  graph: tf.Graph, seeds: Sequence[tf.Operation]
) -> tf.Operation | None:
  """The first stateless random op whose seeds depend on none of `seeds`."""
  finder = _Finder(graph, _is_stateless_random)
  seeded: set[tf.Operation] | None = None
  for op in graph.get_operations():
    # Reading attributes takes time; without functions they say nothing.
    attributes = op.node_def.attr if finder.functions else {}
    if not finder.find(op.type, attributes):
      continue
    if seeded is None:
      # What a stateful op returns is another seed for each micro-batch.
      seeded = _reached_from([*seeds, *unrepeatable(graph)])
    if op not in seeded:
      return op
  return None


def _is_stateless_random(op_type: str) -> bool:
  return op_type.startswith(
    ('StatelessRandom', 'StatelessTruncated', 'StatelessParameterized')
  ) or op_type in ('StatelessMultinomial', 'StatelessShuffle')


def _reached_from(ops: Iterable[tf.Operation]) -> set[tf.Operation]:
  """The ops that depend on `ops` by way of integers, as seeds are.

  By its float inputs a layer depends on those of layers before, too.
  """
  pending = list(ops)
  reached = set(pending)
  while pending:
    for output in pending.pop().outputs:
      if output.dtype.is_integer:
        new = set(output.consumers()) - reached
        reached |= new
        pending += new
  return reached


def may_need_gradients(
  tensors: Sequence[tf.Tensor],
  is_trained: Callable[[str], bool] = lambda name: True,
) -> bool:
  """Whether tensors depend on a trained variable, as far as the graph shows.

  `is_trained` is given a name with ':0'. Inside `tf.function` whatever comes
  from outside may depend on a variable.
  """
  tensors = [t for t in tensors if differentiable(t)]
  if not all(tf.is_symbolic_tensor(t) for t in tensors):
    return True
  in_function = tf.get_default_graph().building_function
  pending = [t.op for t in tensors]
  seen = set()
  while pending:
    op = pending.pop()
    if op in seen:
      continue
    seen.add(op)
    if op.type in _READS_OF_VARIABLES:
      if is_trained(_variable_name(op)):
        return True
    elif in_function and op.type == 'Placeholder':
      if differentiable(op.outputs[0]):
        return True
    else:
      pending.extend(t.op for t in op.inputs)
  return False


def _variable_name(read: tf.Operation) -> str:
  op = read if read.type == 'VariableV2' else read.inputs[0].op
  while op.type in ('Enter', 'Identity') and op.inputs:
    op = op.inputs[0].op
  return f'{op.name}:0'
