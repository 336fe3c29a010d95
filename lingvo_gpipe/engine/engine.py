# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Emits a schedule's tasks into a TensorFlow graph, one call a task.

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
from collections.abc import Callable, Container, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import backward_function, graph_function
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellOutputs,
  HasGradient,
)
from lingvo_gpipe.engine.micro_batches import Clock
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  flat_tensors,
  on_device,
  place_read,
  tie,
)
from lingvo_gpipe.engine.traced_cells import OUTSIDE, TracedCells
from lingvo_gpipe.schedules import Task, TaskKind
from lingvo_gpipe.schedules.emitted import EmittedSchedule

# What a task calls: a function of its arguments and of incoming gradients.
Call = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]]


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

  Use: `run` every task of the schedule in order, or the forward tasks first and
  the backward tasks when the gradients of the outputs are known.

  Attributes:
    traced: The cells.
    emitted: The tasks in the graph: what a trace of a step is read with.
  """

  def __init__(
    self,
    traced: TracedCells,
    clock: Clock,
    recomputed: Sequence[Container[int]],
  ):
    """Reads the cells' weights.

    Args:
      traced: The cells.
      clock: Where in the training this is.
      recomputed: For each cell, the micro-batches whose backward task runs the
        forward pass again; see `schedules.recomputed`.
    """
    self.traced = traced
    self._recomputed = recomputed
    cells = traced.cells
    self._weights = [self._read_weights(k) for k in range(len(cells))]
    self._packed_weights = [self._pack_weights(k) for k in range(len(cells))]
    self._under_xla = compiles_graph()
    if self._under_xla:
      place_read(clock.step, cells[0].device)
    self._contexts = functools.cache(clock.contexts_on)
    devices = tuple(cell.device for cell in cells)
    self.emitted = EmittedSchedule(traced.schedule, devices, {}, {})
    self._last_calls: dict[int, list[tf.Operation]] = {}
    self._forward: dict[tuple[int, int], _Forward] = {}

  # -- Weights.

  def _read_weights(self, k: int) -> list[tf.Tensor]:
    """A cell's weights and what else it uses of the graph, as tensors."""
    cell = self.traced.cells[k]
    with on_device(cell.device):
      weights = [
        tf.convert_to_tensor(w)
        if self.traced.uses_weight(k, i)
        # To read a table copies it, once rows of it have been updated.
        else tf.zeros([], w.dtype.base_dtype)
        for i, w in enumerate(cell.weights)
      ]
      weights += map(tf.convert_to_tensor, self.traced.function(k).captures)
    if compiles_graph():
      for weight in weights:
        place_read(weight, cell.device)
    return weights

  def _pack_weights(self, k: int) -> list[tf.Tensor]:
    cell = self.traced.cells[k]
    with on_device(cell.device):
      return self.traced.function(k).pack_weights(
        self._weights[k][: len(cell.weights)]
      )

  def weights(self, k: int) -> list[tf.Tensor]:
    """The tensors for which there are weight gradients."""
    if k < self.traced.schedule.first_backward:
      return []
    trained = self.traced.cells[k].trained
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

  # -- Tasks.

  def run(
    self, tasks: Sequence[Task], start: LossGradients | None = None
  ) -> 'Gradients':
    """Emits tasks in the given order.

    Args:
      tasks: The tasks.
      start: What backward tasks among them start from.
    """
    gradients = Gradients(self, start)
    for task in tasks:
      name = f'{self.traced.cells[task.cell].name}_{task.kind.value}'
      with tf.name_scope(f'{name}{task.micro_batch}'):
        if task.kind == TaskKind.FORWARD:
          self._run_forward(task)
        else:
          assert task.kind == TaskKind.BACKWARD, task
          gradients.run(task)
    return gradients

  def _run_forward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    cell, function = self.traced.cells[k], self.traced.function(k, m)
    # 1. What the cell before left, and this cell for the last micro-batch.
    args = function.arguments(
      self.traced.inputs[m] if k == 0 else self.results(k - 1, m).outputs,
      cell.side_input(m),
      self._packed_weights[k],
      self._contexts(cell.device)[m],
      cell.carry if m == 0 else self.results(k, m - 1).carry,
      taken=self.taken(k, m),
    )
    stash: list[tf.Tensor] = []

    def call(
      args: Sequence[tf.Tensor], _: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      if not function.goes_back:
        return function.forward(args)
      # 3. Residuals, or what cannot be recomputed.
      flat, stash[:] = function.backward.forward(
        args, keep=not self.recomputes(task)
      )
      return flat

    # 2. What the next cell takes.
    results = function.results(self.emit(task, call, args))
    self._forward[k, m] = _Forward(args, results, stash)

  def recomputes(self, task: Task) -> bool:
    """Whether the forward pass runs again for a cell and a micro-batch."""
    return task.micro_batch in self._recomputed[task.cell]

  def emit(
    self,
    task: Task,
    call: Call,
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Calls on the cell's device, after the last task there.

    The control edges are what keeps the schedule's promise on memory. Without
    them TensorFlow starts every task whose inputs are there: it would recompute
    several micro-batches at once. XLA knows no such edges; see `tensors.tie`.
    """
    index = self.traced.schedule.cell_devices[task.cell]
    device = self.traced.cells[task.cell].device
    if index not in self._last_calls:
      self._last_calls[index] = self._before_first(device)
    after = self._last_calls[index]
    if not tf.executing_eagerly():
      # Within another pipeline's cell, or a branch, backward tasks are in a
      # function of their own, which runs after that of the forward tasks.
      graph = tf.get_default_graph()
      after = [last for last in after if last.graph is graph]
    with on_device(device), tf.control_dependencies(after):
      if self._under_xla and (after or gradients):
        tied = tie([*args, *gradients], after)
        args, gradients = tied[: len(args)], tied[len(args) :]
      results = call(args, gradients)
    if results and not tf.executing_eagerly():
      self._last_calls[index] = [results[0]]
      self.emitted.task_of_op[results[0].op.name] = task
    return results

  def _before_first(self, device: str) -> list[tf.Operation]:
    """What the first task on a device waits for.

    A pass of TensorFlow over the graph looks for what a reference variable may
    reach, and builds the function of each call to see whether it has such
    variables. It does not look into calls that one before them reaches. So here
    is one, of no use besides: it saves milliseconds a task in the first step.
    """
    if (
      self.traced.schedule.forward_only
      or self._under_xla
      or tf.executing_eagerly()
      or isinstance(tf.get_default_graph(), graph_function.FuncGraph)
    ):
      return []
    with on_device(device):
      # No float: those may be looked at for NaN, and this has no value.
      unused = tf.raw_ops.VariableV2(shape=[], dtype=tf.bool)
    return [unused.op]

  # -- Results.

  def results(self, k: int, micro_batch: int) -> CellOutputs:
    """What a forward task returned."""
    return self._forward[k, micro_batch].results

  def forward(self, k: int, micro_batch: int) -> _Forward:
    """What a forward task left for the backward task."""
    return self._forward[k, micro_batch]

  def taken(self, k: int, micro_batch: int) -> dict[str, Any]:
    """The values that a cell takes, by name."""
    sources = {
      name: self.traced.source(name) for name in self.traced.cells[k].takes
    }
    return {
      name: self.traced.given[name][micro_batch]
      if source == OUTSIDE
      else self.results(source, micro_batch).put[name]
      for name, source in sources.items()
    }


class Gradients:
  """What the backward tasks of one pass leave."""

  def __init__(self, engine: Engine, start: LossGradients | None):
    """Begins a backward pass."""
    self._engine = engine
    self._traced = engine.traced
    self._start = start
    self._backward: dict[tuple[int, int], _Backward] = {}
    self._sums: dict[int, list[tf.Tensor]] = {}

  def run(self, task: Task) -> None:
    """Emits a backward task."""
    k, m = task.cell, task.micro_batch
    function = self._traced.function(k, m)
    if function.backward.is_empty:
      none = [None] * len(function.backward.input_positions)
      self._backward[k, m] = _Backward(*function.split_gradients(none))
      return
    forward = self._engine.forward(k, m)

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      residuals = forward.stash
      if self._engine.recomputes(task):
        # 4. Not before the gradients are there.
        residuals = function.backward.recompute(args, residuals, gradients)
        if residuals and not tf.executing_eagerly():
          self._engine.emitted.recompute_of_op[residuals[0].op.name] = task
      d_inputs, self._sums[k] = function.backward.backward(
        args, residuals, gradients, self._sums.get(k)
      )
      # 5. For the cell before; 6. for the next micro-batch.
      self._backward[k, m] = _Backward(*function.split_gradients(d_inputs))
      return flat_tensors(d_inputs) + self._sums[k]

    gradients = self._of_results(k, m, function)
    self._engine.emit(task, call, forward.arguments, gradients)

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
