# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Emits a schedule's tasks into a TensorFlow graph, one call a task.

What one task leaves for others, of cell k and micro-batch m:

```
                       weights, context
                             |
  outputs of k-1, m --(1)--> F --(2)--> outputs: k+1, m
                             |
                        (3) stash, for B: see `backward_tasks`
```
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Container, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.cell_function import (
  CellOutputs,
)
from lingvo_gpipe.engine.micro_batches import Clock
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  on_device,
  place_read,
  tie,
)
from lingvo_gpipe.engine.traced_cells import OUTSIDE, TracedCells
from lingvo_gpipe.schedules import Task
from lingvo_gpipe.schedules.emitted import EmittedSchedule

# What a task calls: a function of its arguments and of incoming gradients.
Call = Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]]


@dataclasses.dataclass
class Forward:
  """What a forward task left."""

  arguments: list[tf.Tensor]
  results: CellOutputs
  stash: list[tf.Tensor]


class Engine:
  """Runs one mini-batch through the cells, task by task.

  Use: `backward_tasks.run_tasks` with every task of the schedule in order, or
  with the forward tasks first, and the backward tasks when the gradients of the
  outputs are known.

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
    self._forward: dict[tuple[int, int], Forward] = {}

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

  def run_forward(self, task: Task) -> None:
    """Emits a forward task."""
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
    self._forward[k, m] = Forward(args, results, stash)

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

  def forward(self, k: int, micro_batch: int) -> Forward:
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
