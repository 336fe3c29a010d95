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

A value with a name goes from the cell that puts it to each cell that takes it,
straight from device to device. Its gradient comes back by way of the takers:
each adds its own to what the next one sends. So a cell sends one gradient a
value, and terms are added in the same order as within one cell:

```
  forward:   cell 0 ----> cell 2        backward:   cell 0 <---- cell 2
                '-------------> cell 5                              <---- cell 5
```
"""

import bisect
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellInputs,
  CellOutputs,
  HasGradient,
)
from lingvo_gpipe.engine.tensors import (
  device_inside,
  differentiable,
  flat_tensors,
  signature,
  specs_of,
)
from lingvo_gpipe.schedules import Schedule

# Where a value comes from that no cell puts: before the first one.
OUTSIDE = -1

# The functions that cells were traced to, by what they were traced for.
Functions = dict[Any, list[CellFunction]]


@dataclasses.dataclass
class Cell:
  """One cell.

  Attributes:
    name: For messages and for the names of ops.
    device: Where it runs.
    body: What it computes.
    weights: Its weights, on that device.
    carry: The carry of its first micro-batch.
    side_inputs: Inputs for this cell alone, one nest a micro-batch; or None.
    puts: Names of the values that it hands to later cells.
    takes: Names of the values that it takes from earlier cells.
    trained: For each weight, whether it is trained; None if all are.
  """

  name: str
  device: str
  body: Callable[[CellInputs], CellOutputs]
  weights: Sequence[tf.Tensor]
  carry: Sequence[tf.Tensor] = ()
  side_inputs: Sequence[Any] | None = None
  puts: Sequence[str] = ()
  takes: Sequence[str] = ()
  trained: Sequence[bool] | None = None

  def side_input(self, micro_batch: int) -> Any:
    return None if self.side_inputs is None else self.side_inputs[micro_batch]

  def trace(
    self, inputs: Any, taken: Mapping[str, Any], side_inputs: Any
  ) -> CellFunction:
    """Traces the cell for inputs of the given specs."""
    return CellFunction(
      self.name,
      self.body,
      inputs,
      side_inputs,
      self.weights,
      self.carry,
      device_inside(self.device),
      taken=taken,
    )


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
    functions.append(cell.trace(inputs, taken, side))
    inputs = functions[-1].outputs
    put.update(functions[-1].put)
  return functions


class TracedCells:
  """The cells, their inputs, and the function that each task runs.

  Attributes:
    cells: The K cells.
    schedule: For K cells and M micro-batches.
    inputs: The M micro-batches of the first cell's input, nests.
    given: Values from outside that cells take: by name, a nest for each
      micro-batch. They have gradients, unlike the cells' side inputs.
    input_gradients: Whether the first cell's backward tasks also compute the
      gradients of the pipeline's inputs.
  """

  def __init__(
    self,
    cells: Sequence[Cell],
    schedule: Schedule,
    inputs: Sequence[Any],
    given: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    *,
    input_gradients: bool = False,
    weighted: bool = False,
    functions: Functions | None = None,
  ):
    """Traces.

    Args:
      cells: See above, as for all but `weighted` and `functions`.
      schedule: See above.
      inputs: See above.
      given: See above.
      input_gradients: See above.
      weighted: Whether the last cell's output is a loss, and it and all losses
        are given the micro-batch's weight as their gradient. One without
        weight adds 0 to the gradients, even if its own are NaN.
      functions: What such cells were traced to before; new traces are added.
    """
    assert not (input_gradients and schedule.first_backward)
    self.cells = cells
    self.schedule = schedule
    self.inputs = inputs
    self.given = given
    self.input_gradients = input_gradients
    self._weighted = weighted
    self._known = {} if functions is None else functions
    self._sources, self._takers = _routes(cells, list(given))
    self._functions = [self._trace(m) for m in range(len(inputs))]

  def function(self, k: int, micro_batch: int = 0) -> CellFunction:
    """The function of cell `k` for a micro-batch."""
    return self._functions[micro_batch][k]

  def uses_weight(self, k: int, index: int) -> bool:
    """Whether cell `k` reads one of its weights as a tensor."""
    return any(row[k].uses_weight(index) for row in self._functions)

  def _trace(self, micro_batch: int) -> list[CellFunction]:
    given = {name: values[micro_batch] for name, values in self.given.items()}
    sides = [cell.side_input(micro_batch) for cell in self.cells]
    specs = specs_of([self.inputs[micro_batch], given, sides])
    key = signature(specs)
    if key not in self._known:
      functions = trace_all(self.cells, specs[0], specs[2], specs[1])
      if not self.schedule.forward_only:
        self._differentiate(functions)
      self._known[key] = functions
    return self._known[key]

  def _differentiate(self, functions: Sequence[CellFunction]) -> None:
    """Builds the cells' gradients, from the last to the first."""
    outputs = [differentiable(s) for s in flat_tensors(functions[-1].outputs)]
    taken: dict[int, dict[str, list[bool]]] = {}
    first = self.schedule.first_backward
    for k in reversed(range(first, len(functions))):
      by_name = self.by_next_taker(k, lambda name, j: taken[j][name])
      outputs, taken[k] = functions[k].prepare_backward(
        HasGradient(outputs, *by_name),
        k > first or self.input_gradients,
        trained=self.cells[k].trained,
        without=[
          name
          for name in self.cells[k].takes
          if OUTSIDE < self._sources[name] < first
        ],
        weighted=self._is_weighted(k, functions[k]),
      )

  def _is_weighted(self, k: int, function: CellFunction) -> bool:
    """Whether a cell's losses, or its output, are given weights."""
    has_loss = k == len(self.cells) - 1 or function.num_losses > 0
    return self._weighted and has_loss

  def with_input_gradients(
    self, taken: Mapping[str, Any], micro_batch: int
  ) -> CellFunction:
    """The first cell traced again, with gradients of its inputs."""
    cell = self.cells[0]
    specs = specs_of(
      [self.inputs[micro_batch], taken, cell.side_input(micro_batch)]
    )
    key = ('input gradients', signature(specs))
    if key not in self._known:
      function = cell.trace(*specs)
      function.prepare_backward(
        self.function(0).has_gradient,
        True,
        weighted=self._is_weighted(0, function),
        # There is no forward call that could.
        keeps=False,
      )
      self._known[key] = [function]
    return self._known[key][0]

  # -- Named values.

  def source(self, name: str) -> int:
    """The cell that puts a value, or `OUTSIDE`."""
    return self._sources[name]

  def next_taker(self, name: str, after: int) -> int | None:
    """The first cell behind `after` that takes a value; None if none does."""
    takers = self._takers[name]
    index = bisect.bisect_right(takers, after)
    return takers[index] if index < len(takers) else None

  def by_next_taker(
    self, k: int, get: Callable[[str, int], Any]
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the takers behind a cell know of its values.

    Returns:
      What `get` gives for each value that the cell puts, and the first cell
      behind that takes it; and the same for each value that it takes.
    """
    found: list[dict[str, Any]] = []
    for names in (self.cells[k].puts, self.cells[k].takes):
      takers = {name: self.next_taker(name, k) for name in names}
      found.append(
        {name: get(name, j) for name, j in takers.items() if j is not None}
      )
    return found[0], found[1]


def _routes(
  cells: Sequence[Cell], given: Sequence[str]
) -> tuple[dict[str, int], dict[str, list[int]]]:
  """For each named value the cell that puts it, and the cells that take it."""
  sources = dict.fromkeys(given, OUTSIDE)
  takers: dict[str, list[int]] = {}
  for k, cell in enumerate(cells):
    for name in cell.takes:
      assert name in sources, f'{cell.name} takes {name!r} too early.'
      takers.setdefault(name, []).append(k)
    for name in cell.puts:
      assert name not in sources, f'{cell.name} puts {name!r} again.'
      sources[name] = k
  assert sources.keys() == takers.keys()
  return sources, takers
