# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sums of many tensors as chains of sums of two.

TensorFlow's AddN adds into the buffer of an input that nobody else is still to
read, and begins with that input. Which input it is depends on what happened to
run before, and so do the last bits of a sum of three or more:

```
  AddN(a, b, c)        --->  a + b + c,  b + a + c  or  c + b + a
  AddN(AddN(a, b), c)  --->  (a + b) + c: a sum of two has one value only
```

TensorFlow's gradients have such sums where a tensor is read more than twice,
also in the functions that loops and conditionals call.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import atomic_function

_COPY = 'in_pairs'

# For each function that others call, what is to be called in its place.
_replacements: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def rewrite(
  definition: function_pb2.FunctionDef, functions: Iterable[Any]
) -> list[Any]:
  """Rewrites a function, and those that it calls.

  Args:
    definition: The function; changed in place.
    functions: Those that it may call. They stay as they are: where they have
      such sums, or call what has, copies are called in their place.

  Returns:
    The functions that it may call now.
  """
  functions = list(functions)
  by_name = with_called(functions)
  _rewrite(definition, by_name)
  return [_replacement(function, by_name) for function in functions]


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


def _rewrite(
  definition: function_pb2.FunctionDef, by_name: dict[str, Any]
) -> bool:
  """Rewrites a function in place; returns whether anything changed."""

  def replacement(name: str) -> str:
    if name not in by_name:
      return name
    return str(
      definition_of(_replacement(by_name[name], by_name)).signature.name
    )

  is_changed = _split_sums(definition)
  for node in definition.node_def:
    # Its gradient is found by its name.
    if node.op == 'SymbolicGradient':
      continue
    for value in _called_by(node):
      if replacement(value.name) != value.name:
        value.name = replacement(value.name)
        is_changed = True
    if replacement(node.op) != node.op:
      node.op = replacement(node.op)
      is_changed = True
  return is_changed


def _called_by(node: Any) -> Iterator[Any]:
  for attribute in node.attr.values():
    if attribute.HasField('func'):
      yield attribute.func
    yield from attribute.list.func


def _replacement(function: Any, by_name: dict[str, Any]) -> Any:
  """What is to be called in place of a function; itself if it is as wanted."""
  if function not in _replacements:
    definition = function_pb2.FunctionDef()
    definition.CopyFrom(definition_of(function))
    replacement = None
    if _rewrite(definition, by_name):
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


def _split_sums(definition: function_pb2.FunctionDef) -> bool:
  """Makes sums of more than two tensors chains; returns whether any was."""
  sums = [
    node
    for node in definition.node_def
    if node.op == 'AddN'
    and node.attr['N'].i > 2
    # Lists of tensors are sums, too, but not of numbers.
    and node.attr['T'].type != tf.variant.as_datatype_enum
  ]
  for node in sums:
    count = node.attr['N'].i
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
  return bool(sums)
