# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is due at a step even if the step itself is skipped.

Some updates are made at given steps, whatever the batch: an accumulator of
gradients is applied and emptied every few steps, a layer copies its weights.
If they were skipped with a step whose loss is not finite they would come one
period late:

    steps of an accumulator   0  1  NaN | 3  4  5
    with the third skipped    +  +  apply and empty: two batches, then three
    left out                  +  +      | +  +  +  apply: five batches at once

Such an update is a conditional that depends on variables alone, among them the
global step. Here it is put into the graph once more, free of all that waits for
the loss.
"""

from collections.abc import Iterable, Sequence

import tensorflow.compat.v1 as tf

from lingvo_gpipe.training import non_finite

_CONDITIONALS = ('If', 'Case')
_READS = ('VarHandleOp', 'ReadVariableOp', 'Identity', 'Const')


def again(
  writers: Iterable[tf.Operation], of_batch: Iterable[tf.Operation]
) -> list[tf.Operation]:
  """Puts a training step's due updates into the graph once more.

  Args:
    writers: Ops of the step that write to variables, each after what it needs.
    of_batch: Ops of the forward pass, and checks. What is computed from their
      results is no due update, unless they only read variables.

  Returns:
    Ops that run the copies, one after the other.
  """
  tainted = {op for op in of_batch if op.type not in _READS}
  copies: list[tf.Operation] = []
  for op in writers:
    if op.type not in _CONDITIONALS:
      continue
    needs = non_finite.in_order([op], control_inputs=False)
    if tainted.isdisjoint(needs):
      copies.append(_copy(op, needs, after=copies[-1:]))
  return copies


def _copy(
  op: tf.Operation, needs: Sequence[tf.Operation], after: list[tf.Operation]
) -> tf.Operation:
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
