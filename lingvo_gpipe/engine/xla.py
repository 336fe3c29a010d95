# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a schedule needs where XLA compiles the graph, as it does for TPUs.

XLA compiles all tasks into one program. It inlines their functions, computes
what occurs twice once, and knows no control edges between ops without side
effects. So it would merge a recomputation with the forward pass it repeats,
and keep what recomputing is there to drop.

An optimisation barrier ties a task's arguments to what must come before it.
XLA sees other operands than the forward pass had, and none of them before the
incoming gradient and the end of the last task are there:

```
  arguments of the forward task --.             .--> arguments
  incoming gradients -------------+-- barrier --+--> gradients
  last task on the device --------'
```
"""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.python import xla as tf2xla
from tensorflow.python.ops import control_flow_util


def compiles_graph() -> bool:
  """Whether what is built now will be compiled by XLA.

  True inside `tpu.replicate` and `tf.function(jit_compile=True)`. What the
  runtime clusters on its own (TF_XLA_FLAGS) does not count: a call that must
  not be inlined stays a call there.
  """
  return not tf.executing_eagerly() and bool(
    control_flow_util.GraphOrParentsInXlaContext(tf.get_default_graph())
  )


def device_inside(device: str) -> str:
  """The device to name inside of functions that are called on `device`.

  Elsewhere a function's ops run where it is called. Which core of a TPU an op
  belongs to is an annotation that XLA reads op by op, so it must be on the ops
  themselves.
  """
  return device if 'TPU_REPLICATED_CORE' in device else ''


def place_read(tensor: tf.Tensor, device: str) -> None:
  """Puts the read of the variable behind a weight on `device`.

  TensorFlow reads variables outside of all device scopes and leaves the read
  to be placed where the variable is; for the cores of a TPU nothing does that.

  Args:
    tensor: A variable's value, perhaps cast.
    device: The device of the cell that it is a weight of.
  """
  op = tensor.op
  while op.type in ('Cast', 'Identity'):
    op = op.inputs[0].op
  if op.type == 'ReadVariableOp' and not op.device:
    op._set_device(tf.DeviceSpec.from_string(device).to_string())


def tie(
  tensors: Sequence[tf.Tensor], before: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
  """Returns `tensors`, none of which XLA has before all of `before`.

  Args:
    tensors: Any tensors.
    before: Likewise; may be empty.
  """
  together = [*tensors, *before]
  if not together:
    return []
  return list(tf2xla.optimization_barrier(*together))[: len(tensors)]
