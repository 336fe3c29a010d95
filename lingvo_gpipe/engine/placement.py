# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Puts TensorFlow ops on the device of their cell, whoever builds them.

`tf.device` alone is not enough where TensorFlow builds a gradient: with
colocate_gradients_with_ops=True (the default of Lingvo's learner) it wraps the
gradient function in a colocation scope, and colocation wins over `tf.device`.
The whole backward pass would then run on the device of the last cell.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
  """Places the ops built inside on `device`, whatever scopes surround it.

  Args:
    device: A device name, as `cluster.WorkerDeviceInModelSplit` returns it. ''
      leaves the choice to TensorFlow.
  """
  if tf.executing_eagerly():
    with tf.device(device or None):
      yield
    return
  # Ignoring the colocation that is there clears the stack of devices as well.
  with tf.get_default_graph().colocate_with(None, ignore_existing=True):
    if device:
      with tf.device(device):
        yield
    else:
      yield


def same_device(a: str, b: str) -> bool:
  """Whether two names are of the same device."""
  return tf.DeviceSpec.from_string(a) == tf.DeviceSpec.from_string(b)


def before_copies(tensor: Any, device: str) -> Any:
  """What a tensor is a copy of, if the copy lies on another device.

  Lingvo spreads copies of weights that are not variables (casts, or reads on
  GPUs) over the devices of a model split, by turns. A cell that used them
  would have its weights sent there and back each step.

  Args:
    tensor: A tensor, or anything else, which is returned as it is.
    device: Where it is to be used.
  """
  if not device or tf.executing_eagerly():
    return tensor
  while tf.is_symbolic_tensor(tensor) and tensor.op.type == 'Identity':
    if same_device(tensor.op.device, device):
      break
    tensor = tensor.op.inputs[0]
  return tensor


def device_indices(devices: Sequence[str]) -> tuple[int, ...]:
  """Numbers devices in the order in which they first appear.

  `['/cpu:0', '/cpu:1', '/cpu:0']` gives `(0, 1, 0)`, the form in which a
  schedule names them.
  """
  index: dict[str, int] = {}
  return tuple(index.setdefault(device, len(index)) for device in devices)
