# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradient of a pipeline's outputs, as TensorFlow finds it.

With the loss outside, the backward tasks run when TensorFlow asks for
gradients; with the loss inside they are already in the graph, for the sum of
loss x weight, and are only scaled. Half-precision gradients are still float32
then: the sum may be too large or too small for them, where the mean is not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine import (
  engine,
  gradient_bridge,
  micro_batches,
  placement,
  tensor_specs,
)
from lingvo_gpipe.pipeline.loss_pass import LossPass
from lingvo_gpipe.schedules import Schedule, TaskKind


class PipelineGradients:
  """Attaches the gradient of one mini-batch to the pipeline's outputs."""

  def __init__(
    self,
    the_engine: engine.Engine,
    schedule: Schedule,
    devices: Sequence[str],
    inputs: Sequence[tf.Tensor],
    input_dims: micro_batches.Dims,
    before_input_gradients: Callable[[], None],
    refused: Sequence[gradient_bridge.Source] = (),
  ):
    """Prepares the gradient.

    Args:
      the_engine: The engine, with all forward tasks emitted.
      schedule: Its schedule.
      devices: The device of each cell.
      inputs: The tensors of the pipeline's input, of the mini-batch.
      input_dims: Along which dimension each of them was cut.
      before_input_gradients: Called before gradients of the inputs are built.
      refused: What the outputs depend on besides, and has no gradient here.
    """
    self._engine = the_engine
    self._schedule = schedule
    self._devices = devices
    self._inputs = inputs
    self._input_dims = input_dims
    self._before_input_gradients = before_input_gradients
    self._refused = refused
    self._scale: tf.Tensor | None = None

  def from_outside(
    self,
    outputs: Sequence[tf.Tensor],
    parts: Sequence[Sequence[tf.Tensor]],
    dims: micro_batches.Dims,
    shares: Callable[[], list[tf.Tensor]],
  ) -> list[tf.Tensor]:
    """Attaches the gradient where the loss is outside of the pipeline.

    Args:
      outputs: The last cell's differentiable outputs, of the mini-batch, then
        the auxiliary losses of all cells.
      parts: For each micro-batch, what was joined to the last cell's outputs.
      dims: Along which dimension each was joined.
      shares: Gives each micro-batch's share of the examples.
    """
    num_outputs = len(dims)

    def run_backward(d_outputs: list[tf.Tensor]) -> None:
      with placement.on_device(self._devices[-1]):
        split = micro_batches.split_gradients(
          d_outputs[:num_outputs], parts, dims
        )
      self._engine.output_gradients = lambda m: split[m]
      if len(outputs) > num_outputs:
        self._engine.loss_gradients = self._aux_gradients(
          d_outputs[num_outputs:], shares()
        )
      self._engine.restart_backward()
      self._engine.run(
        [t for t in self._schedule.in_order() if t.kind != TaskKind.FORWARD]
      )

    return self._attach(outputs, run_backward)

  def from_inside(
    self, loss: tf.Tensor, weight: tf.Tensor, run: Callable[[], LossPass]
  ) -> tf.Tensor:
    """Attaches the gradient where the loss is inside.

    Args:
      loss: The loss of the mini-batch, or another metric.
      weight: Its weight.
      run: Gives the pass with its backward tasks, which need not have run
        before.
    """

    def run_backward(d_outputs: list[tf.Tensor]) -> None:
      done = run()
      self._engine = done.engine
      with placement.on_device(self._devices[-1]):
        self._scale = tf.math.divide_no_nan(d_outputs[0], weight * done.scale)

    return self._attach([loss], run_backward)[0]

  def _attach(
    self,
    outputs: Sequence[tf.Tensor],
    run_backward: Callable[[list[tf.Tensor]], None],
  ) -> list[tf.Tensor]:
    inputs = [t for t in self._inputs if tensor_specs.differentiable(t)]
    sources = [
      gradient_bridge.Source(self._devices[0], inputs, self._d_inputs),
      *(self._weights_of(k) for k in range(len(self._devices))),
      *self._refused,
    ]
    return gradient_bridge.attach_gradient(
      outputs, sources, self._devices[-1], run_backward
    )

  def _weights_of(self, k: int) -> gradient_bridge.Source:
    weights = self._engine.weights(k)
    kept = [i for i, w in enumerate(weights) if tensor_specs.differentiable(w)]
    device = self._devices[k]

    def gradients() -> list[Any]:
      found = self._engine.weight_gradients(k)
      return [
        self._scaled(found[i], tensor_specs.value_dtype(weights[i]), device)
        for i in kept
      ]

    return gradient_bridge.Source(device, [weights[i] for i in kept], gradients)

  def _d_inputs(self) -> list[Any]:
    """Gradients of the pipeline's float inputs, of the mini-batch."""
    self._before_input_gradients()
    rows = []
    for m in range(self._schedule.num_micro_batches):
      gradients = self._engine.input_gradients(m)
      rows.append(
        [
          d
          for t, d in zip(self._inputs, gradients, strict=True)
          if tensor_specs.differentiable(t)
        ]
      )
    device = self._devices[0]
    with placement.on_device(device):
      there = [
        (t, dim)
        for t, dim in zip(self._inputs, self._input_dims, strict=True)
        if tensor_specs.differentiable(t)
      ]
      merged = micro_batches.merge_gradients(rows, [dim for _, dim in there])
    return [
      self._scaled(d, t.dtype, device)
      for d, (t, _) in zip(merged, there, strict=True)
    ]

  def _scaled(self, gradient: Any, dtype: tf.DType, device: str) -> Any:
    """A gradient, multiplied by the scale if there is one, of some dtype."""
    if gradient is None:
      return None
    with placement.on_device(device):
      if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
          self._scaled(gradient.values, dtype, device),
          gradient.indices,
          gradient.dense_shape,
        )
      if self._scale is not None:
        wide = tensor_specs.sum_dtype(gradient.dtype)
        gradient = tf.cast(gradient, wide) * tf.cast(self._scale, wide)
      return tf.cast(gradient, dtype.base_dtype)

  def _aux_gradients(
    self, d_losses: Sequence[tf.Tensor], shares: Sequence[tf.Tensor]
  ) -> Callable[[int, int], list[tf.Tensor]]:
    """Gradients of each cell's auxiliary losses, for each micro-batch."""

    def gradients(k: int, m: int) -> list[tf.Tensor]:
      first = sum(len(self._engine.results(j, m).losses) for j in range(k))
      end = first + len(self._engine.results(k, m).losses)
      with placement.on_device(self._devices[k]):
        return [tf.cast(shares[m], d.dtype) * d for d in d_losses[first:end]]

    return gradients
