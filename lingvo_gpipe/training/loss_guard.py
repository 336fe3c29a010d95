# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps a loss that is not finite from doing harm, and says where it is from.

Whatever in a training step writes to a variable waits for a check of the loss,
and for Lingvo's of each gradient. If one fails, nothing is written:

    forward --> loss --> check -------------------.
                  '----> gradients --> checks ----+--> [weights, slots, step]
                              '-------------------'

Then `non_finite` searches the step's forward pass for the place, and
--on_nan_loss says what is next.
"""

import functools
import re
from typing import Any, NamedTuple

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import control_flow_util

from lingvo_gpipe.engine import graph_walks
from lingvo_gpipe.training import first_error, logs, non_finite

tf.flags.DEFINE_enum(
  'on_nan_loss',
  'stop',
  ['stop', 'skip'],
  'What to do when the loss of a step is NaN or infinite. Its weights are '
  'never updated. stop: end the training; skip: go on with the next step. Work '
  'that is due at a skipped step, such as applying an accumulator, is done '
  'without its batch.',
)

FLAGS = tf.flags.FLAGS

_CHECKS = ('CheckNumerics', 'CheckNumericsV2', 'Assert')
# So many steps skipped one after the other mean that training is broken.
_MAX_SKIPPED = 10
_CONDITIONALS = ('If', 'Case')
_READS = ('VarHandleOp', 'ReadVariableOp', 'Identity', 'Const')


class NonFiniteLossError(RuntimeError):
  """The loss is NaN or infinite."""


def _writes_in(graph):
  """Returns what tells whether an op of the graph may change a variable."""
  definitions = graph_walks.definitions(graph)

  @functools.cache
  def function_writes(name):
    definition = definitions.get(name)
    return definition is None or any(map(node_writes, definition.node_def))

  def node_writes(node):
    if node.op in graph_walks.READS:  # Such as a cell's look-up in a table.
      return False
    if any(function_writes(f.name) for f in graph_walks.called(node.attr)):
      return True
    known = op_def_registry.get(node.op)
    if known is None:
      return function_writes(node.op)
    return any(
      arg.type == types_pb2.DT_RESOURCE or arg.is_ref for arg in known.input_arg
    )

  def op_writes(op):
    if op.type in non_finite.CALLS:
      return function_writes(op.get_attr('f').name)
    return op.type not in graph_walks.READS and any(
      t.dtype == tf.resource or t.dtype._is_ref_dtype for t in op.inputs
    )

  return op_writes


class _Step(NamedTuple):
  loss: Any
  checks: list[Any]  # Lingvo's too.
  skip: Any  # What a skipped step runs.


def gate(model):
  """Guards the training steps, {train op: step}, of a model that is built."""
  return {task.train_op: _gate(task) for task in model.tasks}


def _gate(task):
  loss, name = task.eval_metrics['loss'][0], f'check_loss_of_{task.params.name}'
  with non_finite.beside(loss.op):
    check = tf.debugging.check_numerics(loss, 'The loss is not finite', name)
  forward = set(non_finite.in_order([loss.op]))
  writes = _writes_in(loss.graph)
  checks, writers, behind = [check.op], [], set()
  for op in non_finite.in_order([task.train_op]):
    needs = [t.op for t in op.inputs] + list(op.control_inputs)
    if op not in forward and writes(op):
      writers.append(op)
      behind.add(op)
    elif not behind.isdisjoint(needs):
      behind.add(op)  # Too late to keep anything from being written.
    elif op.type in _CHECKS:
      checks.append(op)
  due = _due_again(writers, [*forward, *checks])
  with tf.control_dependencies(checks):
    fine = tf.no_op(f'{name}_and_gradients')
  # No writer comes before a check, so no circle can come of it.
  for op in writers:
    # An edge into a loop's frame is not allowed; Lingvo makes no such loops.
    if not control_flow_util.IsInWhileLoop(op):
      op._add_control_input(fine)
  steps = [py_utils.GetOrCreateGlobalStepVar(), task.global_step]
  with tf.control_dependencies(None), tf.control_dependencies(due):
    skip = tf.group(
      *(v.deref().assign_add(1) for v in {s.ref() for s in steps})
    )
  return _Step(loss, checks, skip)


def _due_again(writers, of_batch):
  """Copies a training step's due updates, free of all that waits for the loss.

  An accumulator of gradients is applied and emptied every few steps, whatever
  the batch. Skipped with a step, such an update would come one period late:

      steps of an accumulator   0  1  NaN | 3  4  5
      with the third skipped    +  +  apply and empty: two batches, then three
      left out                  +  +      | +  +  +  apply: five batches at once

  It is a conditional that depends on variables, and not on the ops `of_batch`.
  Each copy runs after the one before it.
  """
  tainted = {op for op in of_batch if op.type not in _READS}
  copies: list[tf.Operation] = []
  for op in writers:
    if op.type in _CONDITIONALS:
      needs = non_finite.in_order([op], control_inputs=False)
      if tainted.isdisjoint(needs):
        copies.append(_copy(op, needs, after=copies[-1:]))
  return copies


def _copy(op, needs, after):
  """Copies `op` and what it needs, but for the handles of variables."""
  graph_def = tf.GraphDef()
  graph_def.versions.CopyFrom(op.graph.graph_def_versions)
  handles: dict[str, tf.Tensor] = {}
  for need in needs:
    if need.type == 'VarHandleOp':
      handles.update((t.name, t) for t in need.outputs)
      continue
    node = graph_def.node.add()
    node.CopyFrom(need.node_def)
    node.input[:] = [name for name in node.input if not name.startswith('^')]
    node.attr.pop('_class', None)  # Colocation with what is not copied.
  with tf.control_dependencies(None), tf.control_dependencies(after):
    [copy] = tf.import_graph_def(
      graph_def, handles, [op.name], name='if_the_step_is_skipped'
    )
    # What waits for a conditional itself, not for an output, is not kept
    # waiting: TensorFlow loses the edge when it takes the conditional apart.
    return tf.identity(copy.outputs[0]).op if copy.outputs else copy


class Session(first_error.Session):
  """A session that deals with the `steps` of `gate` whose loss is not finite.

  `policy` is a value of --on_nan_loss. `around_step`, if not None, is called in
  place of `run` for a training step, with `run` before its arguments.
  """

  def __init__(self, model, steps, policy, around_step, *args, **kwargs):
    super().__init__(*args, **kwargs)
    self._global_step = model.global_step
    self._steps = steps
    self._policy = policy
    self._around_step = around_step
    self._last_skipped = None
    self._in_a_row = 0

  def run(self, fetches, *args, **kwargs):
    run = super().run
    several = fetches if isinstance(fetches, (list, tuple)) else ()
    operations = [f for f in several if isinstance(f, tf.Operation)]
    train_ops = [op for op in operations if op in self._steps]
    if not train_ops:
      return run(fetches, *args, **kwargs)
    if self._around_step:
      run = functools.partial(self._around_step, run)
    try:
      return run(fetches, *args, **kwargs)
    except non_finite.CHECK_ERRORS as error:
      return self._skip(fetches, train_ops[0], error)

  def _skip(self, fetches, train_op, error):
    step = int(self.run(self._global_step))
    what = _what_is_not_finite(self, self._steps[train_op], error)
    text = f'Step {step + 1}: {what}.'
    if self._policy == 'stop':
      raise NonFiniteLossError(
        f'{text} No weight was updated; --on_nan_loss=skip leaves such steps '
        'out.'
      ) from error
    self._in_a_row = self._in_a_row + 1 if self._last_skipped == step - 1 else 1
    self._last_skipped = step
    if self._in_a_row >= _MAX_SKIPPED:
      raise NonFiniteLossError(
        f'{text} No weight was updated, in {_MAX_SKIPPED} steps in a row.'
      ) from error
    logs.warn(f'{text} The step is skipped.')
    value = functools.partial(_value, self)
    results = [
      None if f is train_op else tf.nest.map_structure(value, f)
      for f in fetches
    ]
    self.run(self._steps[train_op].skip)
    return results


def _what_is_not_finite(session, step, error):
  origin = non_finite.find(session, [step.loss])
  if origin is not None:
    return f'the loss is not finite; {origin}'
  line = _failed_check(error)
  if not line and isinstance(error, tf.errors.CancelledError):
    # That a check on another device failed is all that the error says.
    line = _first_failed(session, step.checks)
  if not line:
    raise error
  return f'{line}; the loss was finite when the step was run again'


def _failed_check(error):
  """The line about a check, ours or Lingvo's, that an error has; or ''."""
  match = re.search(r'.*Tensor had \S*(NaN|Inf).*', str(error))
  return match[0].strip() if match else ''


def _first_failed(session, checks):
  for check in checks:
    try:
      session.run(check)
    except tf.errors.InvalidArgumentError as error:
      return _failed_check(error)
  return ''


def _value(session, tensor):
  """A tensor's value; NaN if it needs a check that fails."""
  try:
    return session.run(tensor)
  except non_finite.CHECK_ERRORS:
    shape = tensor.shape.as_list() if tensor.shape.is_fully_defined() else []
    nothing = np.nan if tensor.dtype.is_floating else 0
    # A scalar is not to be an array without dimensions.
    return np.full(shape, nothing, tensor.dtype.as_numpy_dtype)[()]
