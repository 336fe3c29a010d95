# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One task after another on each device.

The control edges are what keeps the schedule's promise on memory. Without
them TensorFlow starts every task whose inputs are there: it would recompute
several micro-batches at once. XLA knows no such edges; see `xla`.
"""

from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function, placement, xla

# What a task calls: a function of its arguments and of incoming gradients.
Call = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]]


class DeviceOrder:
  """Runs calls in the order in which they are given, device by device."""

  def __init__(self, *, training: bool):
    self._training = training
    self._xla = xla.compiles_graph()
    self._last: dict[int, list[tf.Operation | tf.Tensor]] = {}

  def run(
    self,
    index: int,
    device: str,
    call: Call,
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Calls on a device, after what was called there last.

    Args:
      index: The device's number.
      device: The device.
      call: What to call; its first result stands for its end.
      args: Its arguments.
      gradients: The incoming gradients.
    """
    if index not in self._last:
      self._last[index] = self._before_first(device)
    after = self._last[index]
    if not tf.executing_eagerly():
      # Within another pipeline's cell, or a branch, backward tasks are in a
      # function of their own, which runs after that of the forward tasks.
      graph = tf.get_default_graph()
      after = [last for last in after if last.graph is graph]
    with placement.on_device(device), tf.control_dependencies(after):
      if self._xla and (after or gradients):
        tied = xla.tie([*args, *gradients], after)
        args, gradients = tied[: len(args)], tied[len(args) :]
      results = call(args, gradients)
    if results and not tf.executing_eagerly():
      self._last[index] = [results[0]]
    return results

  def _before_first(self, device: str) -> list[tf.Operation]:
    """What the first task on a device waits for.

    A pass of TensorFlow over the graph looks for what a reference variable may
    reach, and builds the function of each call to see whether it has such
    variables. It does not look into calls that one before them reaches. So here
    is one, of no use besides: it saves milliseconds a task in the first step.
    """
    graph = tf.get_default_graph()
    if (
      not self._training
      or self._xla
      or tf.executing_eagerly()
      or isinstance(graph, graph_function.FuncGraph)
    ):
      return []
    with placement.on_device(device):
      # No float: those may be looked at for NaN, and this has no value.
      unused = tf.raw_ops.VariableV2(shape=[], dtype=tf.bool)
    return [unused.op]
