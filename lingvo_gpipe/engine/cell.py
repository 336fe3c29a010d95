# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the engine knows of a cell, and which cells hand values to which.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import xla
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellInputs,
  CellOutputs,
)

# Where a value comes from that no cell puts: before the first one.
OUTSIDE = -1


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
    puts: Names of the values that it hands to later cells, by `put` of
      CellOutputs.
    takes: Names of the values that it takes from earlier cells, by `taken` of
      CellInputs.
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
      xla.device_inside(self.device),
      taken=taken,
    )


def trace_all(
  cells: Sequence[Cell],
  inputs: Any,
  side_inputs: Sequence[Any],
  given: Mapping[str, Any],
) -> list[CellFunction]:
  """Traces all cells, each for what those before it return.

  Args:
    cells: The K cells.
    inputs: Specs of the first cell's input, a nest.
    side_inputs: Specs of each cell's side input.
    given: Specs of the values that come from outside, by name.
  """
  functions: list[CellFunction] = []
  put = dict(given)
  for cell, side in zip(cells, side_inputs, strict=True):
    function = cell.trace(
      inputs, {name: put[name] for name in cell.takes}, side
    )
    functions.append(function)
    inputs = function.outputs
    put.update(function.put)
  return functions


class Routes:
  """Between which cells the values with names go."""

  def __init__(self, cells: Sequence[Cell], given: Iterable[str] = ()):
    """Finds them.

    Args:
      cells: The cells.
      given: Values that no cell puts: they come from outside.
    """
    self._source: dict[str, int] = dict.fromkeys(given, OUTSIDE)
    self._takers: dict[str, list[int]] = {}
    for k, cell in enumerate(cells):
      for name in cell.takes:
        assert name in self._source, f'{cell.name} takes {name!r} too early.'
        self._takers.setdefault(name, []).append(k)
      for name in cell.puts:
        assert name not in self._source, f'{cell.name} puts {name!r} again.'
        self._source[name] = k
    assert self._source.keys() == self._takers.keys()

  def source(self, name: str) -> int:
    """The cell that puts a value, or `OUTSIDE`."""
    return self._source[name]

  def next_taker(self, name: str, after: int) -> int | None:
    """The first cell behind `after` that takes a value; None if none does."""
    takers = self._takers[name]
    index = bisect.bisect_right(takers, after)
    return takers[index] if index < len(takers) else None
