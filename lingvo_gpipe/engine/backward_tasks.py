# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Emits the backward pass of a schedule.

What one task leaves for others, of cell k and micro-batch m; (1) to (3) are in
`engine`:

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

Where weight gradients are tasks of their own, (6) is one later on the device:

```
  gradients of ----(5)--< B <------------------------ gradients of the
  inputs: k-1, m             |                        outputs: k+1, m
                        (7) handed
                             v
  sums of k, m-1 ----(6)---> W ----------------> sums: k, m+1
```

A cell whose inputs have no gradients has all of its backward pass in W, and one
without weights all in B.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import backward_function
from lingvo_gpipe.engine.cell_function import CellFunction, HasGradient
from lingvo_gpipe.engine.engine import Engine
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  flat_tensors,
  on_device,
  tie,
)
from lingvo_gpipe.engine.traced_cells import OUTSIDE
from lingvo_gpipe.schedules import Task, TaskKind


@dataclasses.dataclass(frozen=True)
class LossGradients:
  """What the backward pass starts from.

  Attributes:
    outputs: Maps a micro-batch to the gradients of the last cell's
      differentiable outputs, in a flat list.
    losses: Maps a cell and a micro-batch to the gradients of its losses.
  """

  outputs: Callable[[int], list[tf.Tensor]]
  losses: Callable[[int, int], list[tf.Tensor]] = lambda k, micro_batch: []


@dataclasses.dataclass
class _Backward:
  """What a backward task left: gradients, None where there is none."""

  inputs: list[Any]
  taken: dict[str, list[Any]]


class Gradients:
  """What the backward tasks of one pass leave."""

  def __init__(
    self, engine: Engine, start: LossGradients | None, *, is_split: bool
  ):
    """Begins a backward pass; `is_split` if weight gradients are tasks."""
    self._engine = engine
    self._traced = engine.traced
    self._start = start
    self._backward: dict[tuple[int, int], _Backward] = {}
    self._sums: dict[int, list[tf.Tensor]] = {}
    self._is_split = is_split
    self._handed: dict[tuple[int, int], list[tf.Tensor]] = {}

  def run(self, task: Task) -> None:
    """Emits a backward task, or one of weight gradients."""
    k, m = task.cell, task.micro_batch
    function = self._traced.function(k, m)
    backward = function.backward
    if task.kind == TaskKind.WEIGHT_GRADIENT:
      if backward.splits:
        self._run_weights(task, function)
      elif not backward.has_input_gradients and not backward.is_empty:
        self._run_whole(task, function)
    elif backward.is_empty or (
      # Then all of it is in the task of the weight gradients.
      self._is_split and not backward.has_input_gradients
    ):
      none = [None] * len(backward.input_positions)
      self._backward[k, m] = _Backward(*function.split_gradients(none))
    elif self._is_split and backward.splits:
      self._run_inputs(task, function)
    else:
      self._run_whole(task, function)

  def _run_whole(self, task: Task, function: CellFunction) -> None:
    """Emits a backward pass: gradients of inputs and of weights."""
    k, m = task.cell, task.micro_batch

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      residuals = self._residuals(task, function, args, gradients)
      d_inputs, self._sums[k] = function.backward.backward(
        args, residuals, gradients, self._sums.get(k)
      )
      # 5. For the cell before; 6. for the next micro-batch.
      self._backward[k, m] = _Backward(*function.split_gradients(d_inputs))
      return flat_tensors(d_inputs) + self._sums[k]

    gradients = self._of_results(k, m, function)
    self._engine.emit(
      task, call, self._engine.forward(k, m).arguments, gradients
    )

  def _run_inputs(self, task: Task, function: CellFunction) -> None:
    """Emits the part of it that the cell before waits for."""
    k, m = task.cell, task.micro_batch

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      residuals = self._residuals(task, function, args, gradients)
      # 7. For W.
      d_inputs, self._handed[k, m] = function.backward.backward_inputs(
        args, residuals, gradients
      )
      self._backward[k, m] = _Backward(*function.split_gradients(d_inputs))
      return flat_tensors(d_inputs) + self._handed[k, m]

    gradients = self._of_results(k, m, function)
    self._engine.emit(
      task, call, self._engine.forward(k, m).arguments, gradients
    )

  def _run_weights(self, task: Task, function: CellFunction) -> None:
    """Emits the rest of it."""
    k, m = task.cell, task.micro_batch

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      # 6. For the next micro-batch.
      self._sums[k] = function.backward.backward_weights(
        args, self._handed.pop((k, m)), gradients, self._sums.get(k)
      )
      return self._sums[k]

    gradients = self._of_results(k, m, function)
    self._engine.emit(
      task, call, self._engine.forward(k, m).arguments, gradients
    )

  def _residuals(
    self,
    task: Task,
    function: CellFunction,
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """What the backward pass reads of the forward pass."""
    stash = self._engine.forward(task.cell, task.micro_batch).stash
    if not self._engine.recomputes(task):
      return stash
    # 4. Not before the gradients are there.
    residuals = function.backward.recompute(args, stash, gradients)
    if residuals and not tf.executing_eagerly():
      self._engine.emitted.recompute_of_op[residuals[0].op.name] = task
    return residuals

  def _of_results(
    self, k: int, micro_batch: int, function: CellFunction
  ) -> list[tf.Tensor]:
    """The gradients of what a cell returns, in the order of `HasGradient`."""
    start = self._start
    assert start is not None
    outputs: Sequence[Any] = (
      start.outputs(micro_batch)
      if k == len(self._traced.cells) - 1
      else self._backward[k + 1, micro_batch].inputs
    )
    losses: Sequence[Any] = ()
    if function.num_losses:
      losses = start.losses(k, micro_batch)
    given = self._traced.by_next_taker(
      k, lambda name, j: self._backward[j, micro_batch].taken[name]
    )
    return flat_tensors(HasGradient(outputs, *given).in_order(losses))

  def of_weights(self, k: int) -> list[backward_function.Weight]:
    """The gradients of `Engine.weights(k)`, summed over the micro-batches.

    Those of half-precision weights are float32.
    """
    weights = self._engine.weights(k)
    if k not in self._sums:
      return [None] * len(weights)
    backward = self._traced.function(k).backward
    with on_device(self._traced.cells[k].device):
      return backward.weight_gradients(self._sums[k], weights)

  def of_given(self, name: str, micro_batch: int) -> list[Any]:
    """Gradients of a value from outside, by the first cell that takes it."""
    taker = self._traced.next_taker(name, OUTSIDE)
    assert taker is not None, name
    gradients = self._backward[taker, micro_batch].taken[name]
    return self._shaped(taker, self._traced.given[name][micro_batch], gradients)

  def of_inputs(self, micro_batch: int) -> list[tf.Tensor | None]:
    """Gradients of the pipeline's inputs, None where there is none.

    If the backward tasks do not compute them, an extra task of the first cell
    does, in no order with the others.
    """
    inputs = self._traced.inputs[micro_batch]
    if self._traced.input_gradients:
      gradients = self._backward[0, micro_batch].inputs
      return self._shaped(0, inputs, gradients)
    function = self._traced.with_input_gradients(
      self._engine.taken(0, micro_batch), micro_batch
    )
    args = self._engine.forward(0, micro_batch).arguments
    gradients = self._of_results(0, micro_batch, function)
    with on_device(self._traced.cells[0].device):
      if compiles_graph():
        tied = tie([*args, *gradients], [])
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
    tensors = flat_tensors(nest)
    for tensor, gradient in zip(tensors, gradients, strict=True):
      if gradient is not None:
        gradient.set_shape(tensor.shape)
    with on_device(self._traced.cells[k].device):
      return [
        None if g is None else g + tf.zeros([], g.dtype) for g in gradients
      ]


def run_tasks(
  engine: Engine, tasks: Sequence[Task], start: LossGradients | None = None
) -> Gradients:
  """Emits tasks in the given order.

  Args:
    tasks: The tasks.
    start: What backward tasks among them start from.
  """
  is_split = any(task.kind == TaskKind.WEIGHT_GRADIENT for task in tasks)
  gradients = Gradients(engine, start, is_split=is_split)
  for task in tasks:
    name = f'{engine.traced.cells[task.cell].name}_{task.kind.value}'
    with tf.name_scope(f'{name}{task.micro_batch}'):
      if task.kind == TaskKind.FORWARD:
        engine.run_forward(task)
      else:
        gradients.run(task)
  return gradients
