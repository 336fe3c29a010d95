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

The control edges are what keeps the schedule's promise on memory. Without
them TensorFlow starts every task whose inputs are there: it would recompute
several micro-batches at once. XLA knows no such edges; see `xla`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import (
  backward_function,
  graph_function,
  placement,
  tensor_specs,
  xla,
)
from lingvo_gpipe.engine.cell import OUTSIDE, Cell, Routes, trace_all
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellOutputs,
  HasGradient,
)
from lingvo_gpipe.engine.clock import Clock
from lingvo_gpipe.schedules import Schedule, Task, TaskKind, recomputed


class Engine:
  """Runs one mini-batch through the cells, task by task.

  Use: construct, then `emit` every task of the schedule in order (`run`), or
  the forward tasks first and the backward tasks when the gradients of the
  outputs are known. The gradients of a task's outputs come from the next cell
  or, for the last one, from `output_gradients`; those of its losses from
  `loss_gradients`; set these before the first backward task.

  Attributes:
    output_gradients: Maps a micro-batch to the gradients of the last cell's
      differentiable outputs, in a flat list.
    loss_gradients: Maps a cell and a micro-batch to the gradients of the
      cell's losses. With `weighted` both are the micro-batch's weight.
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
    """
    assert not (input_gradients and schedule.first_backward)
    self._cells = cells
    self._given = dict(given or {})
    self._routes = Routes(cells, self._given)
    self._schedule = schedule
    self._inputs = inputs
    self._clock = clock
    self._recomputed = recomputed(schedule, recompute)
    self._training = not schedule.forward_only
    self._input_gradients = input_gradients
    self._weighted = weighted
    self._xla = xla.compiles_graph()
    self.output_gradients: Callable[[int], list[tf.Tensor]] | None = None
    self.loss_gradients: Callable[[int, int], list[tf.Tensor]] | None = None
    self._variants: dict[Any, list[CellFunction]] = {}
    self._has_gradient: dict[int, HasGradient] = {}
    self._functions = [self._trace(m) for m in range(len(inputs))]
    self._weights = [self._read_weights(k) for k in range(len(cells))]
    self._packed_weights = [self._pack_weights(k) for k in range(len(cells))]
    if self._xla:
      xla.place_read(clock.step, cells[0].device)
    self._contexts: dict[str, list[tf.Tensor]] = {}
    self._last: dict[int, list[Any]] = {}
    self._arguments: dict[tuple[int, int], list[tf.Tensor]] = {}
    self._stash: dict[tuple[int, int], list[tf.Tensor]] = {}
    self._results: dict[tuple[int, int], CellOutputs] = {}
    self._d_inputs: dict[tuple[int, int], list[tf.Tensor | None]] = {}
    self._d_taken: dict[tuple[int, int], dict[str, list[Any]]] = {}
    self._sums: dict[int, list[tf.Tensor]] = {}
    self.task_of_op: dict[str, Task] = {}
    self.recompute_of_op: dict[str, Task] = {}

  # -- Tracing.

  def _trace(self, micro_batch: int) -> list[CellFunction]:
    """The functions for one micro-batch: traced once for each set of shapes."""
    nests = [
      self._inputs[micro_batch],
      {name: rows[micro_batch] for name, rows in self._given.items()},
      *(cell.side_input(micro_batch) for cell in self._cells),
    ]
    specs = tf.nest.map_structure(_spec_or_none, nests)
    key = _signature(specs)
    if key not in self._variants:
      self._variants[key] = self._trace_cells(specs[0], specs[1], specs[2:])
    return self._variants[key]

  def _trace_cells(
    self, inputs: Any, given: Mapping[str, Any], side_inputs: Any
  ) -> list[CellFunction]:
    functions = trace_all(self._cells, inputs, side_inputs, given)
    if self._training:
      self._prepare_backward(functions)
    return functions

  def _prepare_backward(self, functions: Sequence[CellFunction]) -> None:
    """Builds the cells' gradients, from the last to the first."""
    outputs = [
      tensor_specs.differentiable(s)
      for s in tf.nest.flatten(functions[-1].outputs)
      if s is not None
    ]
    taken: dict[int, dict[str, list[bool]]] = {}
    first = self._schedule.first_backward
    for k in reversed(range(first, len(functions))):
      given = self._by_next_taker(k, lambda name, j: taken[j][name])
      self._has_gradient[k] = HasGradient(outputs, *given)
      outputs, taken[k] = functions[k].prepare_backward(
        self._has_gradient[k],
        k > first or self._input_gradients,
        trained=self._cells[k].trained,
        without=[
          name
          for name in self._cells[k].takes
          if OUTSIDE < self._routes.source(name) < first
        ],
        weighted=self._is_weighted(k, functions[k]),
      )

  def _is_weighted(self, k: int, function: CellFunction) -> bool:
    """Whether a cell's losses, or its output, are given weights."""
    has_loss = k == len(self._cells) - 1 or function.num_losses > 0
    return self._weighted and has_loss

  def _by_next_taker(
    self, k: int, get: Callable[[str, int], Any]
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the takers behind a cell know of its values.

    Args:
      k: The cell.
      get: Maps a value's name, and the first cell behind `k` that takes it.

    Returns:
      What `get` gives for each value that the cell puts; and for each that it
      takes and a later cell does, too.
    """
    found: list[dict[str, Any]] = []
    for names in (self._cells[k].puts, self._cells[k].takes):
      takers = {name: self._routes.next_taker(name, k) for name in names}
      found.append(
        {name: get(name, j) for name, j in takers.items() if j is not None}
      )
    return found[0], found[1]

  def _read_weights(self, k: int) -> list[tf.Tensor]:
    """A cell's weights and what else it uses of the graph, as tensors."""
    device = self._cells[k].device
    functions = [row[k] for row in self._functions]
    with placement.on_device(device):
      weights = [
        tf.convert_to_tensor(w)
        if any(function.uses_weight(i) for function in functions)
        # To read a table copies it, once rows of it have been updated.
        else tf.zeros([], w.dtype.base_dtype)
        for i, w in enumerate(self._cells[k].weights)
      ]
      weights += map(tf.convert_to_tensor, functions[0].captures)
    if self._xla:
      for weight in weights:
        xla.place_read(weight, device)
    return weights

  def _pack_weights(self, k: int) -> list[tf.Tensor]:
    weights = self._weights[k][: len(self._cells[k].weights)]
    with placement.on_device(self._cells[k].device):
      return self._functions[0][k].pack_weights(weights)

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
    return self._functions[micro_batch][k]

  # -- Emitting.

  def run(self, tasks: Sequence[Task]) -> None:
    """Emits tasks in the given order."""
    for task in tasks:
      name = f'{self._cells[task.cell].name}_{task.kind.value}'
      with tf.name_scope(f'{name}{task.micro_batch}'):
        if task.kind == TaskKind.FORWARD:
          self._run_forward(task)
        else:
          assert task.kind == TaskKind.BACKWARD, task
          self._run_backward(task)

  def results(self, k: int, micro_batch: int) -> CellOutputs:
    """What a forward task returned."""
    return self._results[k, micro_batch]

  def input_gradients(self, micro_batch: int) -> list[tf.Tensor | None]:
    """Gradients of the pipeline's inputs, None where there is none.

    If the backward tasks do not compute them, an extra task of the first cell
    does, in no order with the others.
    """
    if self._input_gradients:
      return self._shaped(
        0, self._inputs[micro_batch], self._d_inputs[0, micro_batch]
      )
    function = self._with_input_gradients(micro_batch)
    args = self._arguments[0, micro_batch]
    gradients = self._given_gradients(0, micro_batch, function)
    with placement.on_device(self._cells[0].device):
      if self._xla:
        tied = xla.tie([*args, *gradients], [])
        args, gradients = tied[: len(args)], tied[len(args) :]
      backward = function.backward
      residuals = backward.recompute(args, [], gradients)
      d_inputs, _ = backward.backward(args, residuals, gradients, None)
    d_inputs, _ = function.split_gradients(d_inputs)
    return self._shaped(0, self._inputs[micro_batch], d_inputs)

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

  def given_gradients(self, name: str, micro_batch: int) -> list[Any]:
    """Gradients of the tensors of a value from outside, None if there is none.

    They come from the first cell that takes it.
    """
    taker = self._routes.next_taker(name, OUTSIDE)
    assert taker is not None, name
    gradients = self._d_taken[taker, micro_batch][name]
    return self._shaped(taker, self._given[name][micro_batch], gradients)

  def _with_input_gradients(self, micro_batch: int) -> CellFunction:
    """The first cell traced again, with gradients of its inputs."""
    nests = [
      self._inputs[micro_batch],
      self._taken(0, micro_batch),
      self._cells[0].side_input(micro_batch),
    ]
    specs = tf.nest.map_structure(_spec_or_none, nests)
    key = ('input gradients', _signature(specs))
    if key not in self._variants:
      function = self._cells[0].trace(*specs)
      function.prepare_backward(
        self._has_gradient[0], True, weighted=self._is_weighted(0, function)
      )
      self._variants[key] = [function]
    return self._variants[key][0]

  def restart_backward(self) -> None:
    """Forgets all backward tasks, so that they can be emitted again."""
    self._d_inputs.clear()
    self._d_taken.clear()
    self._sums.clear()

  def weight_gradients(self, k: int) -> list[backward_function.Weight]:
    """The gradients of `weights(k)`, summed over the micro-batches.

    Those of half-precision weights are float32.
    """
    weights = self.weights(k)
    if k not in self._sums:
      return [None] * len(weights)
    backward = self._functions[0][k].backward
    with placement.on_device(self._cells[k].device):
      return backward.weight_gradients(self._sums[k], weights)

  def _run_forward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    function = self._functions[m][k]
    inputs = self._inputs[m] if k == 0 else self._results[k - 1, m].outputs
    carry = self._cells[k].carry if m == 0 else self._results[k, m - 1].carry
    args = function.arguments(
      inputs,
      self._cells[k].side_input(m),
      self._packed_weights[k],
      self._context(k, m),
      carry,
      taken=self._taken(k, m),
    )
    self._arguments[k, m] = args
    goes_back = self._training and k >= self._schedule.first_backward

    def call(
      args: Sequence[tf.Tensor], _: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      if not goes_back:
        return function.forward(args)
      flat, self._stash[k, m] = function.backward.forward(
        args, keep=m not in self._recomputed[k]
      )
      return flat

    flat = self._emit(task, call, args)
    self._results[k, m] = function.results(flat)

  def _taken(self, k: int, micro_batch: int) -> dict[str, Any]:
    """The values that a cell takes, by name."""
    sources = {name: self._routes.source(name) for name in self._cells[k].takes}
    return {
      name: self._given[name][micro_batch]
      if source == OUTSIDE
      else self._results[source, micro_batch].put[name]
      for name, source in sources.items()
    }

  def _run_backward(self, task: Task) -> None:
    k, m = task.cell, task.micro_batch
    function = self._functions[m][k]
    if function.backward.is_empty:
      none = [None] * len(function.backward.input_positions)
      self._d_inputs[k, m], self._d_taken[k, m] = function.split_gradients(none)
      return
    gradients = self._given_gradients(k, m, function)

    def call(
      args: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
      residuals = self._stash[k, m]
      if m in self._recomputed[k]:
        residuals = self._recompute(task, function, args, residuals, gradients)
      d_inputs, sums = function.backward.backward(
        args, residuals, gradients, self._sums.get(k)
      )
      self._d_inputs[k, m], self._d_taken[k, m] = function.split_gradients(
        d_inputs
      )
      self._sums[k] = sums
      return [d for d in d_inputs if d is not None] + sums

    self._emit(task, call, self._arguments[k, m], gradients)

  def _recompute(
    self,
    task: Task,
    function: CellFunction,
    args: Sequence[tf.Tensor],
    stash: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """Emits the forward pass of a backward task that recomputes it."""
    residuals = function.backward.recompute(args, stash, gradients)
    if residuals and not tf.executing_eagerly():
      self.recompute_of_op[residuals[0].op.name] = task
    return residuals

  def _given_gradients(
    self, k: int, micro_batch: int, function: CellFunction
  ) -> list[tf.Tensor]:
    """The gradients of what a cell returns, in the order of `HasGradient`."""
    if k == len(self._cells) - 1:
      assert self.output_gradients is not None
      outputs: Sequence[Any] = self.output_gradients(micro_batch)
    else:
      outputs = self._d_inputs[k + 1, micro_batch]
    losses: Sequence[Any] = ()
    if function.num_losses:
      assert self.loss_gradients is not None
      losses = self.loss_gradients(k, micro_batch)
    given = self._by_next_taker(
      k, lambda name, j: self._d_taken[j, micro_batch][name]
    )
    flat = HasGradient(outputs, *given).in_order(losses)
    return [gradient for gradient in flat if gradient is not None]

  def _emit(
    self,
    task: Task,
    call: Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], list[tf.Tensor]],
    args: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor] = (),
  ) -> list[tf.Tensor]:
    """Calls on the cell's device, after the last task there."""
    k, device = task.cell, self._schedule.cell_devices[task.cell]
    if device not in self._last:
      self._last[device] = self._before_first(self._cells[k].device)
    after = self._last[device]
    if not tf.executing_eagerly():
      # Within another pipeline's cell, or a branch, backward tasks are in a
      # function of their own, which runs after that of the forward tasks.
      graph = tf.get_default_graph()
      after = [last for last in after if last.graph is graph]
    with (
      placement.on_device(self._cells[k].device),
      tf.control_dependencies(after),
    ):
      if self._xla and (after or gradients):
        tied = xla.tie([*args, *gradients], after)
        args, gradients = tied[: len(args)], tied[len(args) :]
      flat = call(args, gradients)
    if flat and not tf.executing_eagerly():
      self._last[device] = [flat[0]]
      self.task_of_op[flat[0].op.name] = task
    return flat

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

  def _context(self, k: int, micro_batch: int) -> tf.Tensor:
    device = self._cells[k].device
    if device not in self._contexts:
      with placement.on_device(device):
        self._contexts[device] = self._clock.contexts()
    return self._contexts[device][micro_batch]


def _spec_or_none(leaf: tf.Tensor | None) -> tf.TensorSpec | None:
  return None if leaf is None else tensor_specs.spec(leaf)


def _signature(specs: Any) -> Any:
  """Something hashable that tells shapes and dtypes apart."""

  def dimensions(shape: tf.TensorShape) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())

  return tuple(
    None if s is None else (dimensions(s.shape), s.dtype)
    for s in tf.nest.flatten(specs)
  )
