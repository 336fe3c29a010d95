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
import functools
from collections.abc import Callable, Container, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.backward_function import Weight
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellOutputs,
  OfResults,
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
from lingvo_gpipe.schedules.task import EmittedSchedule

Call = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]]


@dataclasses.dataclass
class Forward:
  arguments: list[tf.Tensor]
  results: CellOutputs
  stash: list[tf.Tensor]


class Engine:
  """Runs one mini-batch through the cells, task by task.

  Use: `run_tasks` with all tasks of the schedule in order, or with the forward
  tasks first, and the others when the gradients of the outputs are known.

  Attributes:
    emitted: The tasks in the graph: what a trace of a step is read with.
    forward: What forward tasks left, by cell and micro-batch.
  """

  def __init__(
    self,
    traced: TracedCells,
    clock: Clock,
    recomputed: Sequence[Container[int]],
  ):
    """`recomputed` is from `schedules.recomputed`."""
    self.traced = traced
    self._recomputed = recomputed
    self._under_xla = compiles_graph()
    if self._under_xla:
      place_read(clock.step, traced.cells[0].device)
    self._contexts = functools.cache(clock.contexts_on)
    devices = tuple(cell.device for cell in traced.cells)
    self.emitted = EmittedSchedule(traced.schedule, devices, {}, {})
    self._last_calls: dict[int, list[tf.Operation]] = {}
    self.forward: dict[tuple[int, int], Forward] = {}

  def run_forward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    cell, function = self.traced.cells[k], self.traced.function(k, m)
    # 1. What the cell before left, and this cell for the last micro-batch.
    args = function.arguments(
      self.traced.inputs[m] if k == 0 else self.results(k - 1, m).outputs,
      self.taken(k, m),
      cell.side_input(m),
      self.traced.packed_weights[k],
      self._contexts(cell.device)[m],
      cell.carry if m == 0 else self.results(k, m - 1).carry,
    )
    stash: list[tf.Tensor] = []

    def call(
      args: Sequence[tf.Tensor], _: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      # 3. Residuals, or what cannot be recomputed.
      flat, stash[:] = function.forward(args, keep=not self.recomputes(task))
      return flat

    # 2. What the next cell takes.
    results = function.results(self.emit(task, call, args))
    self.forward[k, m] = Forward(args, results, stash)

  def recomputes(self, task: Task) -> bool:
    return task.micro_batch in self._recomputed[task.cell]

  def emit(
    self,
    task: Task,
    call: Call,
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Calls on the cell's device, after the last task there.

    Without control edges TensorFlow would recompute several micro-batches at
    once. XLA knows no such edges; see `tensors.tie`.
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
        args, gradients = tie(args, gradients, after)
      results = call(args, gradients)
    if results and not tf.executing_eagerly():
      self._last_calls[index] = [results[0]]
      self.emitted.task_of_op[results[0].op.name] = task
    return results

  def _before_first(self, device: str) -> list[tf.Operation]:
    """What the first task on a device waits for.

    Before the first step TensorFlow builds the function of each call, to look
    for reference variables, but not of calls that one before them reaches. So
    here is one: it saves milliseconds a task.
    """
    if (
      self.traced.schedule.forward_only
      or self._under_xla
      or tf.executing_eagerly()
      or tf.get_default_graph().building_function
    ):
      return []
    with on_device(device):
      # No float: those may be looked at for NaN, and this has no value.
      unused = tf.raw_ops.VariableV2(shape=[], dtype=tf.bool)
    return [unused.op]

  def results(self, k: int, micro_batch: int) -> CellOutputs:
    return self.forward[k, micro_batch].results

  def taken(self, k: int, micro_batch: int) -> dict[str, Any]:
    sources = {
      name: self.traced.source(name) for name in self.traced.cells[k].takes
    }
    return {
      name: self.traced.given[name][micro_batch]
      if source == OUTSIDE
      else self.results(source, micro_batch).put[name]
      for name, source in sources.items()
    }


@dataclasses.dataclass(frozen=True)
class LossGradients:
  """Gradients of the last cell's outputs, and each cell's losses, flat."""

  outputs: Callable[[int], list[tf.Tensor]]
  losses: Callable[[int, int], list[tf.Tensor]] = lambda k, micro_batch: []


class Gradients:
  def __init__(
    self, engine: Engine, start: LossGradients | None, *, is_split: bool
  ):
    self._engine = engine
    self._traced = engine.traced
    self._start = start
    self._is_split = is_split
    # By cell and micro-batch: gradients of inputs, and of values by name; each
    # None where there is none.
    self._backward: dict[
      tuple[int, int], tuple[list[Any], dict[str, list[Any]]]
    ] = {}
    self._handed: dict[tuple[int, int], list[tf.Tensor]] = {}
    self._sums: dict[int, list[tf.Tensor]] = {}

  def run(self, task: Task) -> None:
    """Emits a backward task, or one of weight gradients, if it has any ops."""
    k, m = task.cell, task.micro_batch
    function = self._traced.function(k, m)
    backward = function.backward
    of_weights = task.kind == TaskKind.WEIGHT_GRADIENT
    has_inputs, has_weights = backward.has_gradients
    in_two = self._is_split and has_inputs and has_weights
    if not of_weights:
      none = [None] * len(backward.has_gradient)
      self._backward[k, m] = function.split_gradients(none)
    wanted = has_weights if of_weights else has_inputs
    if not (wanted or (has_weights and not self._is_split)):
      return

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      if of_weights and in_two:
        # 6. For the next micro-batch.
        self._sums[k] = backward.backward_weights(
          args, self._handed.pop((k, m)), gradients, self._sums.get(k)
        )
        return self._sums[k]
      residuals = self._residuals(task, function, args, gradients)
      if in_two:
        # 7. For W.
        d_inputs, rest = backward.backward_inputs(args, residuals, gradients)
        self._handed[k, m] = rest
      else:
        d_inputs, rest = backward.backward(
          args, residuals, gradients, self._sums.get(k)
        )
        self._sums[k] = rest
      # 5. For the cell before.
      self._backward[k, m] = function.split_gradients(d_inputs)
      return flat_tensors(d_inputs) + rest

    args = self._engine.forward[k, m].arguments
    self._engine.emit(task, call, args, self._of_results(k, m, function))

  def _residuals(
    self,
    task: Task,
    function: CellFunction,
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    stash = self._engine.forward[task.cell, task.micro_batch].stash
    if not self._engine.recomputes(task):
      return stash
    # 4. Not before the gradients are there.
    residuals = function.recompute(args, stash, gradients)
    if residuals and not tf.executing_eagerly():
      self._engine.emitted.recompute_of_op[residuals[0].op.name] = task
    return residuals

  def _of_results(
    self, k: int, micro_batch: int, function: CellFunction
  ) -> list[tf.Tensor]:
    """The gradients of what a cell returns, as a backward call takes them."""
    assert self._start is not None
    if k == len(self._traced.cells) - 1:
      outputs: Sequence[Any] = self._start.outputs(micro_batch)
    else:
      outputs = self._backward[k + 1, micro_batch][0]
    losses: Sequence[Any] = ()
    if function.num_losses:
      losses = self._start.losses(k, micro_batch)
    by_name = self._traced.by_next_taker(
      k, lambda name, j: self._backward[j, micro_batch][1][name]
    )
    return flat_tensors(OfResults(outputs, *by_name).in_order(losses))

  def of_weights(self, k: int) -> list[Weight]:
    """Gradients of `TracedCells.weights(k)`, of half precision in float32."""
    weights = self._traced.weights(k)
    if k not in self._sums:
      return [None] * len(weights)
    backward = self._traced.function(k).backward
    with on_device(self._traced.cells[k].device):
      return backward.weight_gradients(self._sums[k], weights)

  def of_given(self, micro_batch: int, name: str) -> list[Any]:
    """Gradients of a value from outside, by the first cell that takes it."""
    taker = self._traced.next_taker(name, OUTSIDE)
    assert taker is not None, name
    gradients = self._backward[taker, micro_batch][1][name]
    return self._shaped(taker, self._traced.given[name][micro_batch], gradients)

  def of_inputs(self, micro_batch: int) -> list[tf.Tensor | None]:
    """Gradients of the pipeline's inputs, by an extra task if need be."""
    inputs = self._traced.inputs[micro_batch]
    if self._traced.input_gradients:
      return self._shaped(0, inputs, self._backward[0, micro_batch][0])
    function = self._traced.with_input_gradients(
      self._engine.taken(0, micro_batch), micro_batch
    )
    args: Sequence[tf.Tensor] = self._engine.forward[0, micro_batch].arguments
    gradients: Sequence[tf.Tensor] = self._of_results(0, micro_batch, function)
    with on_device(self._traced.cells[0].device):
      if compiles_graph():
        args, gradients = tie(args, gradients, [])
      residuals = function.recompute(args, [], gradients)
      d_inputs, _ = function.backward.backward(args, residuals, gradients, None)
    return self._shaped(0, inputs, function.split_gradients(d_inputs)[0])

  def _shaped(
    self, k: int, nest: Any, gradients: list[tf.Tensor | None]
  ) -> list[tf.Tensor | None]:
    """Tells gradients their shapes; like sums they are never -0."""
    for tensor, gradient in zip(flat_tensors(nest), gradients, strict=True):
      if gradient is not None:
        gradient.set_shape(tensor.shape)
    with on_device(self._traced.cells[k].device):
      return [
        None if g is None else g + tf.zeros([], g.dtype) for g in gradients
      ]


def run_tasks(
  engine: Engine, tasks: Sequence[Task], start: LossGradients | None = None
) -> Gradients:
  """Emits tasks in the given order; backward tasks among them need a start."""
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
