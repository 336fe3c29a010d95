# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What can be asked of single tensors, and where their ops run."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.compiler.tf2xla.python import xla as tf2xla
from tensorflow.python.ops import (
  control_flow_util,
  handle_data_util,
  resource_variable_ops,
)


def spec(tensor: tf.Tensor) -> tf.TensorSpec:
  return tf.TensorSpec(tensor.shape, tensor.dtype.base_dtype)


def specs_of(nest: Any) -> Any:
  """The specs of a nest of tensors; a None stays None."""
  return tf.nest.map_structure(
    lambda leaf: None if leaf is None else spec(leaf), nest
  )


def value_dtype(tensor: tf.Tensor | tf.TensorSpec) -> tf.DType:
  """A tensor's dtype; for the handle of a variable, that of the variable."""
  dtype = tensor.dtype.base_dtype
  if dtype == tf.resource and isinstance(tensor, tf.Tensor):
    known = handle_data_util.get_resource_handle_data(tensor)
    if known is not None and known.is_set and len(known.shape_and_type) == 1:
      return tf.as_dtype(known.shape_and_type[0].dtype)
  return dtype


def differentiable(tensor: tf.Tensor | tf.TensorSpec) -> bool:
  """Whether tensors of this dtype can have a gradient."""
  dtype = value_dtype(tensor)
  return dtype.is_floating or dtype.is_complex


def sum_dtype(dtype: tf.DType) -> tf.DType:
  """What gradients are summed in: half precision would lose bits."""
  return tf.float32 if dtype in (tf.bfloat16, tf.float16) else dtype


def flat_tensors(nest: Any) -> list[Any]:
  return [leaf for leaf in tf.nest.flatten(nest) if leaf is not None]


def num_bytes(nest: Any) -> int:
  return sum(map(spec_bytes, flat_tensors(nest)))


def spec_bytes(spec: tf.TensorSpec | tf.Tensor) -> int:
  """Bytes of one tensor; 0 where the shape is not known, or has no bytes."""
  dtype = spec.dtype.base_dtype
  if not spec.shape.is_fully_defined() or dtype in (tf.variant, tf.resource):
    return 0
  return int(spec.shape.num_elements()) * dtype.size


def signature(nest: Any) -> str:
  """Equal for nests of the same structure, shapes and dtypes."""
  return repr(specs_of(nest))


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
  """Places the ops built inside, whatever scopes surround it; '' anywhere.

  `tf.device` loses against the colocation that Lingvo's learner asks for: the
  whole backward pass would run on the device of the last cell.
  """
  with contextlib.ExitStack() as stack:
    if not tf.executing_eagerly():
      # This clears the stack of devices as well.
      graph = tf.get_default_graph()
      stack.enter_context(graph.colocate_with(None, ignore_existing=True))
    if device or tf.executing_eagerly():
      stack.enter_context(tf.device(device or None))
    yield


def same_device(a: str, b: str) -> bool:
  return tf.DeviceSpec.from_string(a) == tf.DeviceSpec.from_string(b)


def before_copies(tensor: Any, device: str) -> Any:
  """What a tensor is a copy of, if the copy lies on another device.

  Lingvo spreads casts of weights, and reads on GPUs, over the devices of a
  model split. A cell's weights would be sent there and back each step.
  """
  if not device or tf.executing_eagerly():
    return tensor
  while tf.is_symbolic_tensor(tensor) and tensor.op.type == 'Identity':
    if same_device(tensor.op.device, device):
      break
    tensor = tensor.op.inputs[0]
  return tensor


def device_indices(devices: Sequence[str]) -> tuple[int, ...]:
  """Numbers devices in the order in which they first appear: `(0, 1, 0)`."""
  index: dict[Any, int] = {}
  specs = map(tf.DeviceSpec.from_string, devices)
  return tuple(index.setdefault(spec, len(index)) for spec in specs)


def may_be_read_by_rows(weight: Any, device: str) -> bool:
  """Whether `read_by_rows` can be, of a weight of a cell on a device."""
  return (
    resource_variable_ops.is_resource_variable(weight)
    and weight.trainable
    and not tf.executing_eagerly()
    and not tf.get_default_graph().building_function
    and not compiles_graph()
    and same_device(weight.device, device)
  )


def read_by_rows(value: tf.Tensor, variable: tf.Variable) -> None:
  """Makes gathers from a trained variable's value read the variable's rows.

  TensorFlow copies a variable that has been updated by rows when it is read.
  A task reads before any update, as the gradient is a sum over all tasks.
  """

  def sparse_read(indices: Any, name: str | None = None) -> tf.Tensor:
    return tf.raw_ops.ResourceGather(
      resource=variable.handle,
      indices=tf.convert_to_tensor(indices),
      dtype=variable.dtype.base_dtype,
      name=name,
    )

  # tf.gather and tf.nn.embedding_lookup ask for it, along the first dimension.
  value.sparse_read = sparse_read


def compiles_graph() -> bool:
  """Whether what is built now will be compiled by XLA.

  As in `tpu.replicate` and `tf.function(jit_compile=True)`, but not by
  auto-clustering (TF_XLA_FLAGS): calls stay calls there.
  """
  return not tf.executing_eagerly() and bool(
    control_flow_util.GraphOrParentsInXlaContext(tf.get_default_graph())
  )


def device_inside(device: str) -> str:
  """The device to name inside of functions that are called on `device`.

  Only XLA reads op by op to which core of a TPU it belongs.
  """
  return device if 'TPU_REPLICATED_CORE' in device else ''


def place_read(tensor: tf.Tensor, device: str) -> None:
  op = tensor.op
  while op.type in ('Cast', 'Identity'):
    op = op.inputs[0].op
  if op.type == 'ReadVariableOp' and not op.device:
    op._set_device(tf.DeviceSpec.from_string(device).to_string())


def tie(
  args: Sequence[tf.Tensor],
  gradients: Sequence[tf.Tensor],
  before: Sequence[tf.Tensor],
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
  """Returns arguments and gradients, none of which XLA has before the rest.

  XLA inlines the functions of all tasks, and knows no control edges. It would
  merge a recomputation with the forward pass, if that had the same operands.
  """
  together = [*args, *gradients, *before]
  if not together:
    return [], []
  tied = list(tf2xla.optimization_barrier(*together))
  end = len(args) + len(gradients)
  return tied[: len(args)], tied[len(args) : end]


_GRADIENT = 'LingvoGpipeBarrier'
_DENSE_GRADIENT = 'LingvoGpipeDenseBarrier'


def barrier(nest: Any, *, dense: bool = False) -> Any:
  """Returns the tensors of a nest behind barriers; a None stays None.

  Behind a barrier a layer has a tensor of its own, whose gradient is the sum of
  what that layer alone makes of it, wherever the cuts are. With `dense`
  gradients are made dense; sparse ones would be joined, and summed later.

  PlaceholderWithDefault is an identity, without a copy, that no optimiser
  removes, as it could be fed. Before the pipeline it keeps known values from
  being built into a copy of a cell's function. Its gradient has a barrier too.
  """

  def behind(x: Any) -> Any:
    if x is None:
      return None
    x = tf.convert_to_tensor(x)
    if tf.executing_eagerly():
      return x
    gradient = _DENSE_GRADIENT if dense else _GRADIENT
    with tf.get_default_graph().gradient_override_map(
      {'PlaceholderWithDefault': gradient}
    ):
      return tf.placeholder_with_default(x, x.shape)

  return tf.nest.map_structure(behind, nest)


@tf.RegisterGradient(_GRADIENT)
def _barrier_gradient(op: tf.Operation, gradient: Any) -> Any:
  del op
  if isinstance(gradient, tf.IndexedSlices):
    return tf.IndexedSlices(
      barrier(gradient.values), gradient.indices, gradient.dense_shape
    )
  return barrier(gradient)


@tf.RegisterGradient(_DENSE_GRADIENT)
def _dense_barrier_gradient(op: tf.Operation, gradient: Any) -> tf.Tensor:
  del op
  return barrier(tf.convert_to_tensor(gradient), dense=True)
