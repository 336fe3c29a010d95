# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The functions of all cells for all micro-batches.

```
  first cell --> ... --> last cell     1. traced, each for what the one before
                                          returns
  first cell <-- ... <-- last cell     2. differentiated, each for the gradients
                                          that the one behind it gives
```

Micro-batches of the same shapes share the functions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import tensor_specs
from lingvo_gpipe.engine.cell import OUTSIDE, Cell, Routes, trace_all
from lingvo_gpipe.engine.cell_function import CellFunction, HasGradient
from lingvo_gpipe.schedules import Schedule


class TracedCells:
  """Traces the cells, and tells which function a task runs."""

  def __init__(
    self,
    cells: Sequence[Cell],
    schedule: Schedule,
    inputs: Sequence[Any],
    given: Mapping[str, Sequence[Any]],
    *,
    input_gradients: bool,
    weighted: bool,
    functions: dict[Any, list[CellFunction]] | None = None,
  ):
    """Traces.

    Args:
      cells: The K cells.
      schedule: For K cells and M micro-batches.
      inputs: The M micro-batches of the first cell's input, nests.
      given: Values from outside, by name, a nest for each micro-batch.
      input_gradients: Whether backward tasks compute those of the inputs.
      weighted: Whether losses are given the micro-batch's weight.
      functions: What such cells were traced to before, by `signature`; new
        traces are added.
    """
    self._cells = cells
    self._schedule = schedule
    self._input_gradients = input_gradients
    self._weighted = weighted
    self._variants = {} if functions is None else functions
    self.routes = Routes(cells, given)
    self._functions = [
      self._trace(rows, {name: values[m] for name, values in given.items()}, m)
      for m, rows in enumerate(inputs)
    ]

  def function(self, k: int, micro_batch: int) -> CellFunction:
    """The function of cell `k` for a micro-batch."""
    return self._functions[micro_batch][k]

  def of_cell(self, k: int) -> list[CellFunction]:
    """Those of cell `k` for all micro-batches."""
    return [row[k] for row in self._functions]

  def _trace(
    self, inputs: Any, given: Mapping[str, Any], micro_batch: int
  ) -> list[CellFunction]:
    sides = [cell.side_input(micro_batch) for cell in self._cells]
    specs = _specs([inputs, given, *sides])
    key = signature(specs)
    if key not in self._variants:
      functions = trace_all(self._cells, specs[0], specs[2:], specs[1])
      if not self._schedule.forward_only:
        self._differentiate(functions)
      self._variants[key] = functions
    return self._variants[key]

  def _differentiate(self, functions: Sequence[CellFunction]) -> None:
    """Builds the cells' gradients, from the last to the first."""
    outputs = [
      tensor_specs.differentiable(s)
      for s in tf.nest.flatten(functions[-1].outputs)
      if s is not None
    ]
    taken: dict[int, dict[str, list[bool]]] = {}
    first = self._schedule.first_backward
    for k in reversed(range(first, len(functions))):
      by_name = self.by_next_taker(k, lambda name, j: taken[j][name])
      outputs, taken[k] = functions[k].prepare_backward(
        HasGradient(outputs, *by_name),
        k > first or self._input_gradients,
        trained=self._cells[k].trained,
        without=[
          name
          for name in self._cells[k].takes
          if OUTSIDE < self.routes.source(name) < first
        ],
        weighted=self._is_weighted(k, functions[k]),
      )

  def _is_weighted(self, k: int, function: CellFunction) -> bool:
    """Whether a cell's losses, or its output, are given weights."""
    has_loss = k == len(self._cells) - 1 or function.num_losses > 0
    return self._weighted and has_loss

  def by_next_taker(
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
      takers = {name: self.routes.next_taker(name, k) for name in names}
      found.append(
        {name: get(name, j) for name, j in takers.items() if j is not None}
      )
    return found[0], found[1]

  def with_input_gradients(
    self, inputs: Any, taken: Mapping[str, Any], micro_batch: int
  ) -> CellFunction:
    """The first cell traced again, with gradients of its inputs.

    Args:
      inputs: Its inputs for a micro-batch.
      taken: The values that it takes.
      micro_batch: Which micro-batch it is.
    """
    cell = self._cells[0]
    specs = _specs([inputs, taken, cell.side_input(micro_batch)])
    key = ('input gradients', signature(specs))
    if key not in self._variants:
      function = cell.trace(*specs)
      function.prepare_backward(
        self.function(0, 0).has_gradient,
        True,
        weighted=self._is_weighted(0, function),
      )
      self._variants[key] = [function]
    return self._variants[key][0]


def _specs(nests: list[Any]) -> list[Any]:
  return tf.nest.map_structure(
    lambda leaf: None if leaf is None else tensor_specs.spec(leaf), nests
  )


def signature(specs: Any) -> Any:
  """Something hashable that tells shapes and dtypes apart."""

  def dimensions(shape: tf.TensorShape) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())

  return tuple(
    None if s is None else (dimensions(s.shape), s.dtype)
    for s in tf.nest.flatten(specs)
  )
