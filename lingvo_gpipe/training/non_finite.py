# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds where in a graph a tensor first ceased to be finite.

From the tensor it goes back to inputs that are not finite either, NaN before
infinity, up to an operation whose inputs are all finite. If that calls a
function, as a cell's forward task does, the function's body is put into the
graph, with the same arguments, and searched in the same way:

    loss <- combine_metrics <- cell_1_F3 <-/- finite
                               '-> last/MatMul <- log/add <- log/Log <-/- finite
"""

import contextlib
import dataclasses
import re

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function_def_to_graph

from lingvo_gpipe.engine import graph_function, graph_walks
from lingvo_gpipe.pipeline import seeds

CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
# What a session raises where a check fails, here or on another device.
CHECK_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.CancelledError)
_FINITE, _INFINITE, _NAN = range(3)
# A forward task, as the engine names it: cell and micro-batch.
_TASK = re.compile(r'(?:^|/)([^/]+)_F(\d+)/[^/]+$')


@dataclasses.dataclass(frozen=True)
class Origin:
  """An operation with finite inputs and an output that is not."""

  # A call in the graph, the call in the called function, ..., the operation.
  ops: tuple[str, ...]
  type: str
  is_nan: bool  # Rather than only infinite.
  variable: str = ''  # The name of the variable that it reads, if it does.

  def __str__(self):
    kind = 'NaN' if self.is_nan else 'infinite'
    if self.variable:
      return f'the variable {self.variable} is {kind}'
    # Layers in cells have scopes of their own, so that names do not clash.
    ops = [op.replace(seeds.OP_SCOPE, '') for op in self.ops]
    place = f'op {ops[-1]} ({self.type})'
    task = _TASK.search(self.ops[0])
    if task and len(self.ops) > 1:
      layer = ops[1].partition('/')[0]
      place = f'{task[1]}, layer {layer}, {place}, of micro-batch {task[2]}'
    return f'{kind} first in {place}'


def find(session, tensors, prefix=''):
  """The `Origin` of tensors that are not finite, None if they are this time.

  Only operations of names with `prefix` are looked at.
  """
  order = [
    op
    for op in in_order([tensor.op for tensor in tensors])
    if op.name.startswith(prefix)
  ]
  states, complete = _states(session, order)
  bad = [t for op in order for t in op.outputs if states.get(t.ref())]
  if complete:
    bad = [t for t in tensors if states.get(t.ref())]
  if not bad:
    return None
  # Where a check ended the computation, the first NaN is not made of others.
  nan = [t for t in bad if states[t.ref()] == _NAN]
  tensor = bad[0] if complete else nan[0] if nan else bad[-1]
  position = {op: number for number, op in enumerate(order)}
  while before := [t for t in tensor.op.inputs if states.get(t.ref())]:
    tensor = min(before, key=lambda t: (-states[t.ref()], position[t.op]))
  op, name = tensor.op, tensor.op.name.removeprefix(prefix)
  inside = _search_call(session, tensor) if op.type in CALLS else None
  if inside is not None:
    return dataclasses.replace(inside, ops=(name, *inside.ops))
  variable = ''
  if op.type in ('ReadVariableOp', 'ResourceGather'):
    variable = op.inputs[0].op.name
  return Origin((name,), op.type, states[tensor.ref()] == _NAN, variable)


def _search_call(session, result):
  """The `Origin` in the function whose call gives `result`, None as above."""
  call, graph = result.op, result.graph
  function = graph_walks.definitions(graph).get(call.get_attr('f').name)
  if function is None:
    return None
  body, names = function_def_to_graph.function_def_to_graph_def(function)
  arguments = [arg.name for arg in function.signature.input_arg]
  waits = {f'^{name}' for name in arguments}
  for node in body.node:
    node.device = ''
    node.input[:] = [name for name in node.input if name not in waits]
  returned = function.signature.output_arg[call.outputs.index(result)].name
  with beside(call), tf.name_scope(None):
    prefix = graph.unique_name('body', mark_as_used=False)
    found = tf.import_graph_def(
      body,
      {f'{a}:0': t for a, t in zip(arguments, call.inputs, strict=True)},
      [names[function.ret[returned]]],
      name=prefix,
    )
  return find(session, found, f'{prefix}/')


@contextlib.contextmanager
def beside(op):
  """Inside, ops are added to the graph of `op`, on its device."""
  with (
    op.graph.as_default(),
    tf.control_dependencies(None),
    tf.device(op.device or None),
  ):
    yield


def in_order(ops, *, control_inputs=True):
  """`ops` and all that they need, each after what it needs itself."""
  done: dict[tf.Operation, None] = {}
  stack = [(op, False) for op in reversed(ops)]
  while stack:
    op, needs_are_there = stack.pop()
    if op in done:
      continue
    if needs_are_there:
      done[op] = None
      continue
    stack.append((op, True))
    needs = [t.op for t in op.inputs]
    if control_inputs:
      needs += op.control_inputs
    stack += [(need, False) for need in reversed(needs) if need not in done]
  return list(done)


def _states(session, order):
  """The {ref: state} of ops' float outputs, and whether all are in it.

  If a check fails, in the graph or in a function, only those before it are.
  """
  definitions = graph_walks.definitions(session.graph)
  tensors, flags = [], []
  for op in order:
    if op._get_control_flow_context() is not None:
      continue
    with beside(op):
      for tensor in list(op.outputs):
        for part in _parts(tensor, definitions):
          tensors.append(tensor)
          finite = tf.reduce_all(tf.math.is_finite(part))
          flags.append((finite, tf.reduce_any(tf.math.is_nan(part))))
  values = _longest_run(session, flags)
  states: dict[object, int] = {}
  for tensor, (finite, nan) in zip(tensors, values, strict=False):
    state = _NAN if nan else _FINITE if finite else _INFINITE
    states[tensor.ref()] = max(state, states.get(tensor.ref(), _FINITE))
  return states, len(values) == len(tensors)


def _parts(tensor, definitions):
  """The float tensors that a tensor is, or that are packed in it."""
  parts = [tensor]
  if tensor.dtype == tf.variant:
    dtypes = graph_function.packed_dtypes(tensor, definitions)
    parts = graph_function.components(tensor, dtypes) if dtypes else []
  return [part for part in parts if part.dtype.is_floating]


def _longest_run(session, fetches):
  """The values of as many of `fetches`, from the first on, as can be had."""
  values: list[tuple[bool, bool]] = []
  trial, limit = len(fetches), len(fetches) + 1
  while len(values) < trial < limit:
    try:
      values = session.run(fetches[:trial])
    except CHECK_ERRORS:
      limit = trial
    except tf.errors.OutOfRangeError:
      break  # Each trial takes a batch, and this was the last one.
    trial = (len(values) + limit) // 2
  return values
