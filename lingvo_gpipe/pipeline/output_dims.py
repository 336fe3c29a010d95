# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that what is cut, and what is joined again, is one value an example.

Shapes alone do not tell examples from, say, as many classes. So the cells are
traced for a second number of examples where two micro-batches do not differ in
size anyway: forward only, to see the shapes of what they return.
"""

import functools
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine import batch_dims
from lingvo_gpipe.engine.cell import Cell, trace_all
from lingvo_gpipe.engine.cell_function import CellFunction
from lingvo_gpipe.engine.traced_cells import signature
from lingvo_gpipe.pipeline import leaves
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.mini_batch import INPUTS, MiniBatch
from lingvo_gpipe.pipeline.side_inputs import SideInputs

# What a trace raises where shapes do not fit.
_MISFITS = (ValueError, TypeError, tf.errors.InvalidArgumentError)


class OutputDims:
  """The dimensions that count examples in what a pipeline's cells return."""

  def __init__(
    self,
    path: str,
    batch: MiniBatch,
    cells: Sequence[Cell],
    side_inputs: SideInputs,
    traced: dict[Any, list[CellFunction]],
  ):
    """Prepares the checks.

    Args:
      path: The PipeliningLayer's path, for messages.
      batch: The mini-batch.
      cells: The K cells.
      side_inputs: Its side inputs.
      traced: What such cells were traced to before; new traces are added.
    """
    self._path = path
    self._batch = batch
    self._cells = cells
    self._side_inputs = side_inputs
    self._traced = traced
    self._functions: list[CellFunction] = []
    self._other: list[CellFunction] | None = None
    self._sizes: list[int | None] = []

  # -- What is cut.

  def explain(self, error: Exception) -> None:
    """Raises an error that says more, if a trace failed for what is cut.

    Args:
      error: What the trace for the first micro-batch raised.

    Raises:
      ValueError: The cells can be traced if one of the leaves is not cut.
    """
    if self._batch.count > 1 and isinstance(error, _MISFITS):
      self._find_shared(self._batch.sizes[0], error)

  def _find_shared(self, size: int | None, error: Exception) -> None:
    """Raises ValueError if the cells fit once one leaf is not cut."""
    names = self._batch.cut_names
    for name in names if len(names) > 1 else ():
      try:
        self._trace(size, uncut=[name])
      except _MISFITS:
        continue
      raise ValueError(
        f'{self._path}: {name} is split into micro-batches as if it had one '
        'value for each example. The cells cannot run with its parts '
        f'({error}), but they can if every micro-batch gets all of it. If it '
        f'belongs to all examples alike, set shared_inputs to [{name!r}].'
      ) from error

  def _trace(
    self, size: int | None, uncut: Sequence[str] = ()
  ) -> list[CellFunction]:
    specs = self._batch.specs(size, uncut)
    sides = [
      self._side_inputs.of_cell(k, specs) for k in range(len(self._cells))
    ]
    values = self._side_inputs.values(specs)
    key = ('forward', signature([specs[INPUTS], values, sides]))
    if key not in self._traced:
      self._traced[key] = trace_all(self._cells, specs[INPUTS], sides, values)
    return self._traced[key]

  # -- What is joined.

  def compare(
    self, first: list[CellFunction], last: list[CellFunction]
  ) -> None:
    """Looks at the traces of the first micro-batch and of the last.

    Micro-batches of one example are always checked: TensorFlow broadcasts a
    dimension of 1, so what is cut by mistake would fit.

    Raises:
      ValueError: What is cut by mistake makes a trace fail.
    """
    self._functions = first
    sizes = self._batch.sizes
    self._sizes = [sizes[0]]
    if sizes[-1] != sizes[0]:
      self._other = last
      self._sizes = [sizes[0], sizes[-1]]
    elif sizes[0] == 1 and self._batch.count > 1:
      self._second_trace()

  def _second_trace(self) -> None:
    """Traces the cells for another number of examples, if they can be."""
    if len(self._sizes) > 1:
      return
    sizes = self._batch.sizes
    # A multiple of what works, neither the micro-batch's size nor the batch's.
    size = 2 * self._batch.count
    if sizes[0] is not None:
      size = self._batch.size + sizes[0]
    try:
      self._other = self._trace(size)
    except _MISFITS as error:
      self._find_shared(size, error)
      tf.logging.warning(
        '%s: the cells can be traced for micro-batches of %s examples, but not '
        'of %s: %s. So it is not certain that their results have one value for '
        'each example.',
        self._path,
        sizes[0],
        size,
        error,
      )
    self._sizes.append(size)

  def of_outputs(self) -> list[int | None]:
    """The dimensions for each leaf of the last cell's outputs.

    None for what is no tensor, and for what is the same in all micro-batches.

    Raises:
      ValueError: An output cannot be joined.
    """
    function = self._functions[-1]
    names = leaves.names(function.outputs, 'outputs')
    flat = tf.nest.flatten(function.outputs)
    there = [name for name, s in zip(names, flat, strict=True) if s is not None]
    found = iter(
      self._find(
        len(self._cells) - 1,
        range(len(there)),
        [f'{name} of the last cell' for name in there],
      )
    )
    return [None if spec is None else next(found) for spec in flat]

  def of_fetched(self, k: int, cell: LingvoCell) -> list[list[int | None]]:
    """The dimensions of what each fetch layer of cell `k` fetched.

    Raises:
      ValueError: It cannot be joined.
    """
    outputs = self._functions[k].graph.outputs
    first = len(outputs) - self._functions[k].num_values
    values = cell.split_values(range(first, len(outputs)))
    return [
      self._find(k, indices, [f'what {layer.path} fetches'] * len(indices))
      for (layer, _), indices in zip(
        cell.trace.fetched, values.fetched, strict=True
      )
    ]

  def _find(
    self, k: int, indices: Sequence[int], names: Sequence[str]
  ) -> list[int | None]:
    """The dimensions of some outputs of cell `k`."""
    if self._batch.count == 1:
      return [None] * len(indices)
    if indices:
      self._second_trace()
    return [
      self._dim(k, index, name)
      for index, name in zip(indices, names, strict=True)
    ]

  def _dim(self, k: int, index: int, name: str) -> int | None:
    traces = [self._functions, *([self._other] if self._other else [])]
    shapes = [trace[k].graph.outputs[index].shape for trace in traces]
    batch_dim = self._batch.batch_dim
    try:
      dim = batch_dims.find(shapes, self._sizes[: len(shapes)], batch_dim)
      if dim is None and self._varying[k][index]:
        raise ValueError('no dimension grows with the number of examples')
    except ValueError as error:
      found = ' and '.join(
        f'{shape} for {size or "any number of"} example(s)'
        for shape, size in zip(shapes, self._sizes, strict=False)
      )
      raise ValueError(
        f'{self._path}: {name} does not have one value for each example: its '
        f'shape is {found}, and {error}. The results of {self._batch.count} '
        'micro-batches cannot be joined into that of the mini-batch. Return '
        'one value for each example, compute it in the layer of loss_tpl, '
        'whose metrics are averaged, or set num_micro_batches to 1.'
      ) from error
    return dim

  @functools.cached_property
  def _varying(self) -> list[list[bool]]:
    """Which outputs of each cell may differ between micro-batches."""
    specs, dims = self._batch.specs(1), self._batch.dims

    def flags(nest: Any, dims: Any) -> list[bool]:
      flat = zip(tf.nest.flatten(nest), tf.nest.flatten(dims), strict=True)
      return [dim is not None for spec, dim in flat if spec is not None]

    of_cell = self._side_inputs.of_cell
    sides = [
      flags(of_cell(k, specs), of_cell(k, dims))
      for k in range(len(self._cells))
    ]
    values = self._side_inputs.values(specs)
    value_dims = self._side_inputs.values(dims)
    given = {name: flags(values[name], value_dims[name]) for name in values}
    return batch_dims.varying_outputs(
      self._cells,
      self._functions,
      flags(specs[INPUTS], dims[INPUTS]),
      sides,
      given,
    )
