# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The cells of a pipeline, traced for a mini-batch.

```
  first cell --> ... --> last cell     1. traced, each for what the one before
                                          returns
  first cell <-- ... <-- last cell     2. differentiated, each for the gradients
                                          that the one behind it gives
```

Micro-batches of the same shapes share the functions.

A value with a name goes straight from the cell that puts it to each that takes
it. Its gradient comes back by way of the takers: each adds its own to what the
next one sends. So terms are added in the same order as within one cell:

```
  forward:   cell 0 ----> cell 2        backward:   cell 0 <---- cell 2
                '-------------> cell 5                              <---- cell 5
```
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.cell_function import Cell, CellFunction, OfResults
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  differentiable,
  flat_tensors,
  on_device,
  place_read,
  signature,
  specs_of,
)
from lingvo_gpipe.schedules import Schedule

# Where a value comes from that no cell puts: before the first one.
OUTSIDE = -1

# The functions that cells were traced to, by what they were traced for.
Functions = dict[Any, list[CellFunction]]


def trace_all(
  cells: Sequence[Cell],
  inputs: Any,
  side_inputs: Sequence[Any],
  given: Mapping[str, Any],
) -> list[CellFunction]:
  """Traces all cells, each for what those before it return, from specs."""
  functions: list[CellFunction] = []
  put = dict(given)
  for cell, side in zip(cells, side_inputs, strict=True):
    taken = {name: put[name] for name in cell.takes}
    functions.append(CellFunction(cell, inputs, taken, side))
    inputs = functions[-1].outputs
    put.update(functions[-1].put)
  return functions


@dataclasses.dataclass(eq=False)
class TracedCells:
  """The cells, their inputs, and the function that each task runs.

  Attributes:
    inputs: The M micro-batches of the first cell's input, nests.
    given: Values from outside that cells take: by name, a nest for each
      micro-batch. They have gradients, unlike the cells' side inputs.
    input_gradients: Whether the pipeline's inputs get gradients.
    weighted: Whether the last cell's output is a loss, and all losses are given
      the micro-batch's weight as their gradient. One without weight adds 0 to
      the gradients, even if its own are NaN.
    known: What such cells were traced to before; new traces are added.
  """

  cells: Sequence[Cell]
  schedule: Schedule
  inputs: Sequence[Any]
  given: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  input_gradients: bool = False
  weighted: bool = False
  known: Functions = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    assert not (self.input_gradients and self.schedule.first_backward)
    self._functions = [self._trace(m) for m in range(len(self.inputs))]
    self._weights: list[list[tf.Tensor]] = []
    self.packed_weights: list[list[tf.Tensor]] = []
    for k in range(len(self.cells)):
      self._read_weights(k)

  def function(self, k: int, micro_batch: int = 0) -> CellFunction:
    return self._functions[micro_batch][k]

  def _trace(self, micro_batch: int) -> list[CellFunction]:
    given = {name: values[micro_batch] for name, values in self.given.items()}
    sides = [cell.side_input(micro_batch) for cell in self.cells]
    specs = specs_of([self.inputs[micro_batch], given, sides])
    key = signature(specs)
    if key not in self.known:
      functions = trace_all(self.cells, specs[0], specs[2], specs[1])
      if not self.schedule.forward_only:
        self._differentiate(functions)
      self.known[key] = functions
    return self.known[key]

  def _differentiate(self, functions: Sequence[CellFunction]) -> None:
    outputs = [differentiable(s) for s in flat_tensors(functions[-1].outputs)]
    taken: dict[int, dict[str, list[bool]]] = {}
    first = self.schedule.first_backward
    for k in reversed(range(first, len(functions))):
      by_name = self.by_next_taker(k, lambda name, j: taken[j][name])
      outputs, taken[k] = functions[k].prepare_backward(
        OfResults(outputs, *by_name),
        k > first or self.input_gradients,
        without=[
          name
          for name in self.cells[k].takes
          if OUTSIDE < self.source(name) < first
        ],
        weighted=self._is_weighted(k, functions[k]),
      )

  def _is_weighted(self, k: int, function: CellFunction) -> bool:
    has_loss = k == len(self.cells) - 1 or function.num_losses > 0
    return self.weighted and has_loss

  def with_input_gradients(
    self, taken: Mapping[str, Any], micro_batch: int
  ) -> CellFunction:
    """The first cell traced again, with gradients of its inputs."""
    cell = self.cells[0]
    specs = specs_of(
      [self.inputs[micro_batch], taken, cell.side_input(micro_batch)]
    )
    key = ('input gradients', signature(specs))
    if key not in self.known:
      function = CellFunction(cell, *specs)
      function.prepare_backward(
        self.function(0).has_gradient,
        True,
        weighted=self._is_weighted(0, function),
        # There is no forward call that could.
        keeps=False,
      )
      self.known[key] = [function]
    return self.known[key][0]

  def _read_weights(self, k: int) -> None:
    cell, function = self.cells[k], self.function(k)
    with on_device(cell.device):
      weights = [
        tf.convert_to_tensor(w)
        if any(row[k].uses_weight(i) for row in self._functions)
        # To read a table copies it, once rows of it have been updated.
        else tf.zeros([], w.dtype.base_dtype)
        for i, w in enumerate(cell.weights)
      ]
      captures = list(map(tf.convert_to_tensor, function.captures))
      self.packed_weights.append(function.pack_weights(weights))
    self._weights.append(weights + captures)
    if compiles_graph():
      for weight in self._weights[k]:
        place_read(weight, cell.device)

  def weights(self, k: int) -> list[tf.Tensor]:
    """The tensors of cell `k` for which there are weight gradients."""
    if k < self.schedule.first_backward:
      return []
    trained = self.cells[k].trained
    if trained is None:
      return self._weights[k]
    captures = self._weights[k][len(trained) :]
    return [*itertools.compress(self._weights[k], trained), *captures]

  def frozen_weights(self, k: int) -> list[tf.Tensor]:
    """The cell's other weights, which have no gradients here."""
    with_gradients = {id(weight) for weight in self.weights(k)}
    return [w for w in self._weights[k] if id(w) not in with_gradients]

  def source(self, name: str) -> int:
    """The cell that puts a value, or `OUTSIDE`."""
    cells = enumerate(self.cells)
    return next((k for k, cell in cells if name in cell.puts), OUTSIDE)

  def next_taker(self, name: str, after: int) -> int | None:
    """The first cell behind `after` that takes a value; None if none does."""
    cells = list(enumerate(self.cells))[after + 1 :]
    return next((k for k, cell in cells if name in cell.takes), None)

  def by_next_taker(
    self, k: int, get: Callable[[str, int], Any]
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `get` gives, with the next taker, for values put and taken."""

    def known(names: Sequence[str]) -> dict[str, Any]:
      takers = {name: self.next_taker(name, k) for name in names}
      return {name: get(name, j) for name, j in takers.items() if j is not None}

    return known(self.cells[k].puts), known(self.cells[k].takes)
