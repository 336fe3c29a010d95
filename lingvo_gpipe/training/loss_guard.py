# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps a loss that is not finite from doing harm, and says where it is from.

Every operation of a training step that writes to a variable, the global step
included, waits for a check of the loss, and for those that Lingvo has of each
gradient. If one fails, the step ends before anything is written:

    forward --> loss --> check -------------------.
                  '----> gradients --> checks ----+--> [weights, slots, step]
                              '-------------------'

Then the step's forward pass is searched for where the numbers cease to be
finite, see `non_finite`, and --on_nan_loss says what is next.
"""

import re

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
MAX_SKIPPED = 10
_CONDITIONALS = ('If', 'Case')
_READS = ('VarHandleOp', 'ReadVariableOp', 'Identity', 'Const')


class NonFiniteLossError(RuntimeError):
  """The loss is NaN or infinite."""


class _Writers:
  """Tells the ops of a graph that can change a variable from the others.

  A cell's tasks cannot, though they may be given a table whose rows they read.
  """

  def __init__(self, graph):
    self._definitions = graph_walks.definitions(graph)
    self._functions = {}

  def __contains__(self, op):
    if op.type in graph_walks.READS:
      return False
    if op.type in non_finite.CALLS:
      return self._in_function(op.get_attr('f').name)
    return any(
      t.dtype == tf.resource or t.dtype._is_ref_dtype for t in op.inputs
    )

  def _in_function(self, name):
    if name not in self._functions:
      self._functions[name] = False
      definition = self._definitions.get(name)
      self._functions[name] = definition is None or any(
        self._in_body(node) for node in definition.node_def
      )
    return self._functions[name]

  def _in_body(self, node):
    if node.op in graph_walks.READS:
      return False
    called = graph_walks.called(node.attr)
    if any(self._in_function(function.name) for function in called):
      return True
    known = op_def_registry.get(node.op)
    if known is None:
      return self._in_function(node.op)
    return any(
      arg.type == types_pb2.DT_RESOURCE or arg.is_ref for arg in known.input_arg
    )


def _gate(train_op, loss, name):
  """Lets what writes to variables in a training step wait for all checks.

  Returns the checks, Lingvo's too, and what is due even if the step is skipped.
  """
  with non_finite.beside(loss.op):
    check = tf.debugging.check_numerics(loss, 'The loss is not finite', name)
  forward = set(non_finite.in_order([loss.op]))
  all_writers = _Writers(loss.graph)
  checks, writers, behind = [check.op], [], set()
  for op in non_finite.in_order([train_op]):
    needs = [t.op for t in op.inputs] + list(op.control_inputs)
    if op not in forward and op in all_writers:
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
  return checks, due


# -- What is due at a step even if the step itself is skipped.
#
# Some updates are made at given steps, whatever the batch: an accumulator of
# gradients is applied and emptied every few steps, a layer copies its weights.
# If they were skipped with a step whose loss is not finite they would come one
# period late:
#
#     steps of an accumulator   0  1  NaN | 3  4  5
#     with the third skipped    +  +  apply and empty: two batches, then three
#     left out                  +  +      | +  +  +  apply: five batches at once
#
# Such an update is a conditional that depends on variables alone, among them
# the global step. Here it is put into the graph once more, free of all that
# waits for the loss.


def _due_again(writers, of_batch):
  """Puts a training step's due updates into the graph once more.

  Args:
    writers: Ops of the step that write to variables, each after what it needs.
    of_batch: Ops of the forward pass, and checks. What is computed from their
      results is no due update, unless they only read variables.

  Returns:
    Ops that run the copies, one after the other.
  """
  tainted = {op for op in of_batch if op.type not in _READS}
  copies = []
  for op in writers:
    if op.type not in _CONDITIONALS:
      continue
    needs = non_finite.in_order([op], control_inputs=False)
    if tainted.isdisjoint(needs):
      copies.append(_copy(op, needs, after=copies[-1:]))
  return copies


def _copy(op, needs, after):
  """Copies `op` and what it needs, but for the handles of variables."""
  graph_def = tf.GraphDef()
  graph_def.versions.CopyFrom(op.graph.graph_def_versions)
  handles = {}
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


class LossGuard:
  """Guards the training steps of a model's tasks.

  Make it when the graph is complete, before any session runs it.
  """

  def __init__(self, model, policy):
    self._policy = policy
    self._losses = {}
    self._checks = {}
    self._skip = {}
    self._last_skipped = None
    self._in_a_row = 0
    self._global_step = model.global_step
    for task in model.tasks:
      loss = task.eval_metrics['loss'][0]
      self._losses[task.train_op] = loss
      self._checks[task.train_op], due = _gate(
        task.train_op, loss, f'check_loss_of_{task.params.name}'
      )
      steps = [py_utils.GetOrCreateGlobalStepVar()]
      if task.global_step is not steps[0]:
        steps.append(task.global_step)
      with tf.control_dependencies(None), tf.control_dependencies(due):
        self._skip[task.train_op] = tf.group(
          *(tf.assign_add(step, 1) for step in steps)
        )

  def session(self, around_step, *args, **kwargs):
    """Returns a session whose training steps are guarded."""
    return _GuardedSession(self, around_step, *args, **kwargs)

  def train_op_of(self, fetches):
    """The train op among `fetches`, None if there is none."""
    if isinstance(fetches, (list, tuple)):
      for fetch in fetches:
        if isinstance(fetch, tf.Operation) and fetch in self._losses:
          return fetch
    return None

  def handle(self, session, fetches, error):
    """Deals with a step for which the session raised `error`.

    Returns:
      What stands for the results, `fetches`, if the step is skipped.

    Raises:
      NonFiniteLossError: Training is to stop.
      the `error` if it is not about a loss that is not finite.
    """
    train_op = self.train_op_of(fetches)
    step = int(session.run(self._global_step))
    text = f'Step {step + 1}: {self._what(session, train_op, error)}.'
    if self._policy == 'stop':
      raise NonFiniteLossError(
        f'{text} No weight was updated; --on_nan_loss=skip leaves such steps '
        'out.'
      ) from error
    self._in_a_row = self._in_a_row + 1 if self._last_skipped == step - 1 else 1
    self._last_skipped = step
    if self._in_a_row >= MAX_SKIPPED:
      raise NonFiniteLossError(
        f'{text} No weight was updated, in {MAX_SKIPPED} steps in a row.'
      ) from error
    logs.warn(f'{text} The step is skipped.')
    results = [
      None if fetch is train_op else _what_can_be_had(session, fetch)
      for fetch in fetches
    ]
    session.run(self._skip[train_op])
    return results

  def _what(self, session, train_op, error):
    """What is not finite, and where; raises an `error` of something else."""
    origin = non_finite.find(session, [self._losses[train_op]])
    if origin is not None:
      return f'the loss is not finite; {origin}'
    line = _failed_check(error)
    if not line and isinstance(error, tf.errors.CancelledError):
      # That a check on another device failed is all that the error says.
      line = _first_failed(session, self._checks[train_op])
    if not line:
      raise error
    return f'{line}; the loss was finite when the step was run again'


class _GuardedSession(first_error.Session):
  """A session that hands failed training steps to a `LossGuard`."""

  def __init__(self, guard, around_step, *args, **kwargs):
    super().__init__(*args, **kwargs)
    self._guard = guard
    self._around_step = around_step

  def run(self, fetches, *args, **kwargs):
    run = super().run
    try:
      if self._around_step and self._guard.train_op_of(fetches):
        return self._around_step(run, fetches, *args, **kwargs)
      return run(fetches, *args, **kwargs)
    except non_finite.CHECK_ERRORS as error:
      if self._guard.train_op_of(fetches) is None:
        raise
      return self._guard.handle(self, fetches, error)


def _failed_check(error):
  """The line about a check, ours or Lingvo's, that an error has; or ''."""
  match = re.search(r'.*Tensor had \S*(NaN|Inf).*', str(error))
  return match[0].strip() if match else ''


def _first_failed(session, checks):
  """What the first of `checks` that fails says, '' if none does."""
  for check in checks:
    try:
      session.run(check)
    except tf.errors.InvalidArgumentError as error:
      return _failed_check(error)
  return ''


def _what_can_be_had(session, fetch):
  """Runs `fetch`, a nest of tensors; NaN for what needs a check that fails."""
  values = []
  for tensor in tf.nest.flatten(fetch):
    try:
      values.append(session.run(tensor))
    except non_finite.CHECK_ERRORS:
      values.append(_nan(tensor))
  return tf.nest.pack_sequence_as(fetch, values)


def _nan(tensor):
  shape = tensor.shape.as_list() if tensor.shape.is_fully_defined() else []
  dtype = tensor.dtype.as_numpy_dtype
  value = np.full(shape, np.nan if tensor.dtype.is_floating else 0, dtype)
  return value[()]  # A scalar, not an array without dimensions.
