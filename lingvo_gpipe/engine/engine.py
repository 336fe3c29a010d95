# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Emits a schedule's tasks into a TensorFlow graph, one call a task.

```
  device 0  F0.0 --> F0.1 --> ...       --> B0.0 --> B0.1
              |        |                      ^
              v        v                      |
  device 1           F1.0 --> B1.0 --> F1.1 --> B1.1

  across rows: activations and their gradients; along a row: control edges
```

What one task leaves for others, of cell k and micro-batch m:

```
                       weights, context
                             |
  outputs of k-1, m --(1)--> F ----------------(2)--> outputs: k+1, m
                             |
                        (3) stash
                             v
  gradients of ----(5)--< B, after (4) the     <----- gradients of the
  inputs: k-1, m             |     residuals          outputs: k+1, m
                             v
  sums of k, m-1 ----(6)---> + ----------------> sums: k, m+1
```
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import backward_function, placement, xla
from lingvo_gpipe.engine.cell import OUTSIDE, Cell
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellOutputs,
  HasGradient,
)
from lingvo_gpipe.engine.clock import Clock
from lingvo_gpipe.engine.device_order import DeviceOrder
from lingvo_gpipe.engine.traced_cells import TracedCells
from lingvo_gpipe.schedules import Schedule, Task, TaskKind, recomputed


@dataclasses.dataclass(frozen=True)
class LossGradients:
  """What the backward pass starts from.

  Attributes:
    outputs: Maps a micro-batch to the gradients of the last cell's
      differentiable outputs, in a flat list.
    losses: Maps a cell and a micro-batch to the gradients of the cell's losses.
  """

  outputs: Callable[[int], list[tf.Tensor]]
  losses: Callable[[int, int], list[tf.Tensor]] = lambda k, micro_batch: []


@dataclasses.dataclass
class _Forward:
  """What a forward task left."""

  arguments: list[tf.Tensor]
  results: CellOutputs
  stash: list[tf.Tensor]


@dataclasses.dataclass
class _Backward:
  """What a backward task left: gradients, None where there is none."""

  inputs: list[Any]
  taken: dict[str, list[Any]]


class Engine:
  """Runs one mini-batch through the cells, task by task.

  Use: construct, then `run` every task of the schedule in order, or the forward
  tasks first and the backward tasks when the gradients of the outputs are
  known.

  Attributes:
    task_of_op: The tasks emitted into the graph so far, by the name of the op
      that runs each: what a trace of a step is read with. A task of a cell in
      which nothing has a gradient has no op.
    recompute_of_op: Backward tasks, by the name of the op that runs the forward
      pass again for them, just before.
  """

  def __init__(
    self,
    cells: Sequence[Cell],
    schedule: Schedule,
    inputs: Sequence[Any],
    clock: Clock,
    *,
    recompute: str,
    input_gradients: bool,
    weighted: bool = False,
    given: Mapping[str, Sequence[Any]] | None = None,
    functions: dict[Any, list[CellFunction]] | None = None,
  ):
    """Traces the cells.

    Args:
      cells: The K cells.
      schedule: For K cells and M micro-batches.
      inputs: The M micro-batches of the first cell's input, nests.
      clock: Where in the training this is.
      recompute: One of schedules.RECOMPUTE_POLICIES.
      input_gradients: Whether the first cell's backward tasks also compute the
        gradients of the pipeline's inputs; it must then have some.
      weighted: Whether the last cell's output is a loss, and it and all losses
        are given the micro-batch's weight as their gradient. One without
        weight adds 0 to the gradients, even if its own are NaN.
      given: Values from outside that cells take: by name, a nest for each
        micro-batch. They have gradients, unlike the cells' side inputs.
      functions: See `TracedCells`.
    """
    assert not (input_gradients and schedule.first_backward)
    self._cells = cells
    self._schedule = schedule
    self._inputs = inputs
    self._given = dict(given or {})
    self._clock = clock
    self._recomputed = recomputed(schedule, recompute)
    self._input_gradients = input_gradients
    self._traced = TracedCells(
      cells,
      schedule,
      inputs,
      self._given,
      input_gradients=input_gradients,
      weighted=weighted,
      functions=functions,
    )
    self._weights = [self._read_weights(k) for k in range(len(cells))]
    self._packed_weights = [self._pack_weights(k) for k in range(len(cells))]
    if xla.compiles_graph():
      xla.place_read(clock.step, cells[0].device)
    self._contexts = functools.cache(self._contexts_on)
    self._order = DeviceOrder(training=not schedule.forward_only)
    self._forward: dict[tuple[int, int], _Forward] = {}
    self._backward: dict[tuple[int, int], _Backward] = {}
    self._sums: dict[int, list[tf.Tensor]] = {}
    self._loss_gradients: LossGradients | None = None
    self.task_of_op: dict[str, Task] = {}
    self.recompute_of_op: dict[str, Task] = {}

  # -- Weights.

  def _read_weights(self, k: int) -> list[tf.Tensor]:
    """A cell's weights and what else it uses of the graph, as tensors."""
    device = self._cells[k].device
    functions = self._traced.of_cell(k)
    with placement.on_device(device):
      weights = [
        tf.convert_to_tensor(w)
        if any(function.uses_weight(i) for function in functions)
        # To read a table copies it, once rows of it have been updated.
        else tf.zeros([], w.dtype.base_dtype)
        for i, w in enumerate(self._cells[k].weights)
      ]
      weights += map(tf.convert_to_tensor, functions[0].captures)
    if xla.compiles_graph():
      for weight in weights:
        xla.place_read(weight, device)
    return weights

  def _pack_weights(self, k: int) -> list[tf.Tensor]:
    weights = self._weights[k][: len(self._cells[k].weights)]
    with placement.on_device(self._cells[k].device):
      return self._traced.function(k, 0).pack_weights(weights)

  def weights(self, k: int) -> list[tf.Tensor]:
    """The tensors for which `weight_gradients` gives the gradients."""
    if k < self._schedule.first_backward:
      return []
    trained = self._cells[k].trained
    if trained is None:
      return self._weights[k]
    num_captures = len(self._weights[k]) - len(trained)
    return list(
      itertools.compress(self._weights[k], [*trained, *[True] * num_captures])
    )

  def frozen_weights(self, k: int) -> list[tf.Tensor]:
    """The cell's other weights, which have no gradients here."""
    with_gradients = {id(weight) for weight in self.weights(k)}
    return [w for w in self._weights[k] if id(w) not in with_gradients]

  def traced(self, k: int, micro_batch: int = 0) -> CellFunction:
    """The function of cell `k` for a micro-batch."""
    return self._traced.function(k, micro_batch)

  # -- Tasks.

  def run(
    self, tasks: Sequence[Task], loss_gradients: LossGradients | None = None
  ) -> None:
    """Emits tasks in the given order.

    Args:
      tasks: The tasks.
      loss_gradients: What backward tasks among them start from.
    """
    self._loss_gradients = loss_gradients
    for task in tasks:
      name = f'{self._cells[task.cell].name}_{task.kind.value}'
      with tf.name_scope(f'{name}{task.micro_batch}'):
        if task.kind == TaskKind.FORWARD:
          self._run_forward(task)
        else:
          assert task.kind == TaskKind.BACKWARD, task
          self._run_backward(task)

  def _run_forward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    cell, function = self._cells[k], self._traced.function(k, m)
    # 1. What the cell before left, and this cell for the last micro-batch.
    args = function.arguments(
      self._inputs[m] if k == 0 else self.results(k - 1, m).outputs,
      cell.side_input(m),
      self._packed_weights[k],
      self._contexts(cell.device)[m],
      cell.carry if m == 0 else self.results(k, m - 1).carry,
      taken=self._taken(k, m),
    )
    goes_back = (
      not self._schedule.forward_only and k >= self._schedule.first_backward
    )
    stash: list[tf.Tensor] = []

    def call(
      args: Sequence[tf.Tensor], _: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      if not goes_back:
        return function.forward(args)
      # 3. Residuals, or what cannot be recomputed.
      flat, stash[:] = function.backward.forward(
        args, keep=m not in self._recomputed[k]
      )
      return flat

    # 2. What the next cell takes.
    results = function.results(self._emit(task, call, args))
    self._forward[k, m] = _Forward(args, results, stash)

  def _run_backward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    function = self._traced.function(k, m)
    if function.backward.is_empty:
      none = [None] * len(function.backward.input_positions)
      self._backward[k, m] = _Backward(*function.split_gradients(none))
      return
    forward = self._forward[k, m]

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      residuals = forward.stash
      if m in self._recomputed[k]:
        # 4. Not before the gradients are there.
        residuals = self._recompute(task, args, residuals, gradients)
      d_inputs, self._sums[k] = function.backward.backward(
        args, residuals, gradients, self._sums.get(k)
      )
      # 5. For the cell before; 6. for the next micro-batch.
      self._backward[k, m] = _Backward(*function.split_gradients(d_inputs))
      return [d for d in d_inputs if d is not None] + self._sums[k]

    gradients = self._gradients_of_results(k, m, function)
    self._emit(task, call, forward.arguments, gradients)

  def _recompute(
    self,
    task: Task,
    args: Sequence[tf.Tensor],
    stash: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """Emits the forward pass of a backward task that recomputes it."""
    backward = self._traced.function(task.cell, task.micro_batch).backward
    residuals = backward.recompute(args, stash, gradients)
    if residuals and not tf.executing_eagerly():
      self.recompute_of_op[residuals[0].op.name] = task
    return residuals

  def _emit(
    self,
    task: Task,
    call: Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]],
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Calls on the cell's device, after the last task there."""
    index = self._schedule.cell_devices[task.cell]
    device = self._cells[task.cell].device
    flat = self._order.run(index, device, call, args, gradients)
    if flat and not tf.executing_eagerly():
      self.task_of_op[flat[0].op.name] = task
    return flat

  def _contexts_on(self, device: str) -> list[tf.Tensor]:
    with placement.on_device(device):
      return self._clock.contexts()

  def _taken(self, k: int, micro_batch: int) -> dict[str, Any]:
    """The values that a cell takes, by name."""
    routes = self._traced.routes
    sources = {name: routes.source(name) for name in self._cells[k].takes}
    return {
      name: self._given[name][micro_batch]
      if source == OUTSIDE
      else self.results(source, micro_batch).put[name]
      for name, source in sources.items()
    }

  def _gradients_of_results(
    self, k: int, micro_batch: int, function: CellFunction
  ) -> list[tf.Tensor]:
    """The gradients of what a cell returns, in the order of `HasGradient`."""
    start = self._loss_gradients
    assert start is not None
    outputs: Sequence[Any] = (
      start.outputs(micro_batch)
      if k == len(self._cells) - 1
      else self._backward[k + 1, micro_batch].inputs
    )
    losses: Sequence[Any] = ()
    if function.num_losses:
      losses = start.losses(k, micro_batch)
    given = self._traced.by_next_taker(
      k, lambda name, j: self._backward[j, micro_batch].taken[name]
    )
    flat = HasGradient(outputs, *given).in_order(losses)
    return [gradient for gradient in flat if gradient is not None]

  # -- Results.

  def results(self, k: int, micro_batch: int) -> CellOutputs:
    """What a forward task returned."""
    return self._forward[k, micro_batch].results

  def restart_backward(self) -> None:
    """Forgets all backward tasks, so that they can be emitted again."""
    self._backward.clear()
    self._sums.clear()

  def weight_gradients(self, k: int) -> list[backward_function.Weight]:
    """The gradients of `weights(k)`, summed over the micro-batches.

    Those of half-precision weights are float32.
    """
    weights = self.weights(k)
    if k not in self._sums:
      return [None] * len(weights)
    backward = self._traced.function(k, 0).backward
    with placement.on_device(self._cells[k].device):
      return backward.weight_gradients(self._sums[k], weights)

  def given_gradients(self, name: str, micro_batch: int) -> list[Any]:
    """Gradients of the tensors of a value from outside, None if there is none.

    They come from the first cell that takes it.
    """
    taker = self._traced.routes.next_taker(name, OUTSIDE)
    assert taker is not None, name
    gradients = self._backward[taker, micro_batch].taken[name]
    return self._shaped(taker, self._given[name][micro_batch], gradients)

  def input_gradients(self, micro_batch: int) -> list[tf.Tensor | None]:
    """Gradients of the pipeline's inputs, None where there is none.

    If the backward tasks do not compute them, an extra task of the first cell
    does, in no order with the others.
    """
    inputs = self._inputs[micro_batch]
    if self._input_gradients:
      gradients = self._backward[0, micro_batch].inputs
      return self._shaped(0, inputs, gradients)
    function = self._traced.with_input_gradients(
      inputs, self._taken(0, micro_batch), micro_batch
    )
    args = self._forward[0, micro_batch].arguments
    gradients = self._gradients_of_results(0, micro_batch, function)
    with placement.on_device(self._cells[0].device):
      if xla.compiles_graph():
        tied = xla.tie([*args, *gradients], [])
        args, gradients = tied[: len(args)], tied[len(args) :]
      backward = function.backward
      residuals = backward.recompute(args, [], gradients)
      d_inputs, _ = backward.backward(args, residuals, gradients, None)
    d_inputs, _ = function.split_gradients(d_inputs)
    return self._shaped(0, inputs, d_inputs)

  def _shaped(
    self, k: int, nest: Any, gradients: list[tf.Tensor | None]
  ) -> list[tf.Tensor | None]:
    """Tells gradients of what a cell is given their shapes; none is -0.

    See `BackwardFunction` for why.
    """
    tensors = [t for t in tf.nest.flatten(nest) if t is not None]
    for tensor, gradient in zip(tensors, gradients, strict=True):
      if gradient is not None:
        gradient.set_shape(tensor.shape)
    with placement.on_device(self._cells[k].device):
      return [
        None if g is None else g + tf.zeros([], g.dtype) for g in gradients
      ]
