# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether anything before the pipeline needs gradients of its inputs.

The gradient of the first layer's input costs as much as that of its weights,
and is mostly not wanted: the input is data. TensorFlow does not say what a
gradient function's results will be used for, so this looks for a weight in
what the input is computed from.
"""

from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

_READS_OF_VARIABLES = frozenset(
  {'ReadVariableOp', 'ResourceGather', 'ResourceGatherNd', 'VariableV2'}
)


def may_be_needed(
  tensors: Sequence[tf.Tensor],
  is_trained: Callable[[str], bool] = lambda name: True,
) -> bool:
  """Whether the inputs depend on a weight, as far as the graph shows.

  Args:
    tensors: The pipeline's float inputs.
    is_trained: Whether a variable of a name, which ends in ':0', is trained.

  Returns:
    True if they depend on a variable that is trained or, inside `tf.function`,
    on something that comes from outside of it and may. A graph that asks for
    gradients of data all the same gets them, by extra tasks.
  """
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
