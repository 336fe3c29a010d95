# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradient of a pipeline's outputs, as TensorFlow finds it.

With the loss outside, the backward tasks run when TensorFlow asks for
gradients; with the loss inside they are already in the graph, for the sum of
loss x weight, and are only scaled. Half-precision gradients are still float32
then: the sum may be too large or too small for them, where the mean is not.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
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
from lingvo_gpipe.pipeline.side_inputs import Given
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
    given: Mapping[str, Given] = MappingProxyType({}),
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
      given: The engine's values from outside, by name.
      refused: What the outputs depend on besides, and has no gradient here.
    """
    self._engine = the_engine
    self._schedule = schedule
    self._devices = devices
    self._inputs = inputs
    self._input_dims = input_dims
    self._before_input_gradients = before_input_gradients
    self._given = given
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
      start = engine.LossGradients(lambda m: split[m])
      if len(outputs) > num_outputs:
        losses = self._aux_gradients(d_outputs[num_outputs:], shares())
        start = dataclasses.replace(start, losses=losses)
      self._engine.restart_backward()
      tasks = self._schedule.in_order()
      self._engine.run([t for t in tasks if t.kind != TaskKind.FORWARD], start)

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
    sources = [
      self._source(
        Given(self._devices[0], self._inputs, self._input_dims),
        self._input_gradients,
      ),
      *(
        self._source(given, self._gradients_of(name))
        for name, given in self._given.items()
      ),
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

  def _source(
    self, given: Given, gradients: Callable[[int], Sequence[Any]]
  ) -> gradient_bridge.Source:
    """What the outputs depend on, of the mini-batch.

    Args:
      given: Its tensors; those that are not float are left out.
      gradients: Gives the gradients of all of them for a micro-batch.
    """
    kept = [
      i for i, t in enumerate(given.tensors) if tensor_specs.differentiable(t)
    ]
    tensors = [given.tensors[i] for i in kept]

    def merged() -> list[Any]:
      rows = [
        [found[i] for i in kept]
        for found in map(gradients, range(self._schedule.num_micro_batches))
      ]
      with placement.on_device(given.device):
        whole = micro_batches.merge_gradients(
          rows, [given.dims[i] for i in kept]
        )
      return [
        self._scaled(d, t.dtype, given.device)
        for d, t in zip(whole, tensors, strict=True)
      ]

    return gradient_bridge.Source(given.device, tensors, merged)

  def _input_gradients(self, m: int) -> Sequence[Any]:
    if m == 0:
      self._before_input_gradients()
    return self._engine.input_gradients(m)

  def _gradients_of(self, name: str) -> Callable[[int], Sequence[Any]]:
    return lambda m: self._engine.given_gradients(name, m)

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
