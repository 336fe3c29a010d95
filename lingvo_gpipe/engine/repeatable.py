# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which ops of a cell give the same again when its forward pass is recomputed.

An op that does not would make the recomputed pass another one than the pass
that ran: random ops with a state, Python functions, queues and iterators, the
time, reads of what the cell itself writes. What such an op returned is kept
with the micro-batch, and the op does not run again:

```
  forward      x --> [ op ] --> y --> ...       y is kept
  recomputed                    y --> ...
```

TensorFlow knows which ops have a state. Of these, a few are harmless.
"""

from collections.abc import Iterable
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import auto_control_deps_utils

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


class Repeatable:
  """Tells the ops of a graph that give the same again from the others."""

  def __init__(self, graph: tf.Graph, definitions: dict[str, Any]):
    """Looks at a graph.

    Args:
      graph: The graph.
      definitions: The FunctionDefs of all functions that it may call, by name.
    """
    self._definitions = definitions
    self._functions: dict[str, str] = {}
    self._written = {
      id(t)
      for op in graph.get_operations()
      if op.type not in READS and not _only_calls_reads(op)
      for t in op.inputs
      if t.dtype == tf.resource
    }

  def culprit(self, op: tf.Operation) -> str:
    """The type of the op, or of one it calls, that does not; '' if it does."""
    if not op._is_stateful:
      return ''
    if op.type in READS:
      written = any(id(t) in self._written for t in op.inputs)
      return op.type if written else ''
    return self._culprit(op.type, op.node_def.attr)

  def _culprit(self, op_type: str, attributes: Any) -> str:
    if op_type in self._definitions:
      return self._in_function(op_type)
    if op_type in _CALLS:
      found = (self._in_function(name) for name in called(attributes))
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


def called(attributes: Any) -> Iterable[str]:
  """The names of the functions among a node's attributes."""
  for value in attributes.values():
    if value.HasField('func'):
      yield value.func.name
    elif value.HasField('list'):
      for function in value.list.func:
        yield function.name


def _has_state(op_type: str) -> bool:
  if op_type in _HARMLESS:
    return False
  definition = tf.get_default_graph().op_def_for_type(op_type)
  return bool(definition.is_stateful)


def _only_calls_reads(op: tf.Operation) -> bool:
  """Whether an op says that it only reads the resources it takes."""
  return op.type in _CALLS and not op._is_stateful
