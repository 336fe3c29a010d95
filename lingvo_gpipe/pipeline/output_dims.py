# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that what is cut, and what is joined again, is one value an example.

Shapes alone do not tell examples from, say, as many classes. So the cells are
traced for a second number of examples, forward only, unless sizes differ.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine.cell_function import CellFunction
from lingvo_gpipe.engine.tensors import flat_tensors, signature
from lingvo_gpipe.engine.traced_cells import TracedCells, trace_all
from lingvo_gpipe.pipeline.mini_batch import leaf_names
from lingvo_gpipe.pipeline.plan import Plan

# What a trace raises where shapes do not fit.
_DOES_NOT_FIT = (ValueError, TypeError, tf.errors.InvalidArgumentError)


class OutputDims:
  def __init__(self, plan: Plan, traced: TracedCells | None):
    """`traced` is None if the cells could not be traced for this mini-batch."""
    self._path = plan.layer.path
    self._batch = batch = plan.batch
    self._cells = plan.cells
    self._side_inputs = plan.side_inputs
    self._known = plan.traces.functions
    self._traces: list[list[CellFunction]] = []
    self._sizes: list[int | None] = []
    if traced is not None:
      for m in (0, -1) if batch.sizes[0] != batch.sizes[-1] else (0,):
        cells = range(len(plan.cells))
        self._traces.append([traced.function(k, m) for k in cells])
        self._sizes.append(batch.sizes[m])

  def explain(self, error: Exception) -> None:
    """Raises ValueError if a trace failed because of a leaf that is cut."""
    if self._batch.count > 1 and isinstance(error, _DOES_NOT_FIT):
      self._find_shared(self._batch.sizes[0], error)

  def _find_shared(self, size: int | None, error: Exception) -> None:
    """Raises ValueError if the cells fit once one leaf is not cut."""
    names = [leaf.name for leaf in self._batch.cut]
    for name in names if len(names) > 1 else ():
      try:
        self._trace(size, uncut=[name])
      except _DOES_NOT_FIT:
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
    inputs, sides = self._batch.specs(size, uncut)
    values = {name: sides[name] for name in self._side_inputs.given}
    of_cells = [
      self._side_inputs.of_cell(k, sides) for k in range(len(self._cells))
    ]
    key = ('forward', signature([inputs, values, of_cells]))
    if key not in self._known:
      self._known[key] = trace_all(self._cells, inputs, of_cells, values)
    return self._known[key]

  def second_trace(self) -> None:
    """Traces the cells for another number of examples, if they can be.

    In micro-batches of one example what is cut by mistake may be broadcast.
    """
    if len(self._sizes) > 1:
      return
    sizes = self._batch.sizes
    # A multiple of what works, neither the micro-batch's size nor the batch's.
    size = 2 * self._batch.count
    if sizes[0] is not None and self._batch.size is not None:
      size = self._batch.size + sizes[0]
    try:
      self._traces.append(self._trace(size))
    except _DOES_NOT_FIT as error:
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
    """The dimension in each leaf of the outputs; None if it is not joined."""
    outputs = self._traces[0][-1].outputs
    names = leaf_names(outputs, 'outputs')
    flat = tf.nest.flatten(outputs)
    there = [name for name, s in zip(names, flat, strict=True) if s is not None]
    what = [f'{name} of the last cell' for name in there]
    found = iter(self._find(len(self._cells) - 1, range(len(there)), what))
    return [None if spec is None else next(found) for spec in flat]

  def of_fetched(self, k: int) -> list[list[int | None]]:
    function = self._traces[0][k]
    end = len(function.graph.outputs)
    indices = range(end - function.num_values, end)
    values = function.notes.values.Pack(indices)
    return [
      self._find(k, own, [f'what {layer.path} fetches'] * len(own))
      for layer, own in zip(function.notes.fetched, values.fetched, strict=True)
    ]

  def _find(
    self, k: int, indices: Sequence[int], names: Sequence[str]
  ) -> list[int | None]:
    if self._batch.count == 1:
      return [None] * len(indices)
    if indices:
      self.second_trace()
    return [
      self._dim(k, index, name)
      for index, name in zip(indices, names, strict=True)
    ]

  def _dim(self, k: int, index: int, name: str) -> int | None:
    shapes = [trace[k].graph.outputs[index].shape for trace in self._traces]
    sizes = self._sizes[: len(shapes)]
    try:
      dim = find(shapes, sizes, self._batch.batch_dim)
      if dim is None and self._varying[k][index]:
        raise ValueError('no dimension grows with the number of examples')
    except ValueError as error:
      found = ' and '.join(
        f'{shape} for {size or "any number of"} example(s)'
        for shape, size in zip(shapes, sizes, strict=True)
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
    sides = self._batch.sides
    values = {name: _is_cut(sides[name]) for name in self._side_inputs.given}
    inputs = _is_cut(self._batch.inputs)
    results: list[list[bool]] = []
    for k, (cell, function) in enumerate(
      zip(self._cells, self._traces[0], strict=True)
    ):
      taken = [flag for name in sorted(cell.takes) for flag in values[name]]
      side = _is_cut(self._side_inputs.of_cell(k, sides))
      results.append(varying_outputs(function, [*inputs, *taken, *side]))
      flags = iter(results[-1])
      inputs = _take(flags, function.outputs)
      for name in sorted(function.put):
        values[name] = _take(flags, function.put[name])
    return results


def _is_cut(nest: Any) -> list[bool]:
  return [leaf.dim is not None for leaf in flat_tensors(nest)]


def _take(flags: Iterator[bool], nest: Any) -> list[bool]:
  return list(itertools.islice(flags, len(flat_tensors(nest))))


def find(
  shapes: Sequence[tf.TensorShape], sizes: Sequence[int | None], batch_dim: int
) -> int | None:
  """The dimension of a tensor that counts the examples; None if none does.

  Given are its shapes in one trace or two, for some numbers of examples, None
  if unknown. Where shapes are not known it is `batch_dim`. Raises ValueError if
  several dimensions depend on that number, or one is no multiple of it.
  """
  if any(shape.rank is None for shape in shapes):
    return batch_dim
  found, unknown = [], []
  for dim, lengths in enumerate(
    zip(*(s.as_list() for s in shapes), strict=True)
  ):
    rows = {
      _rows(length, size)
      for length, size in zip(lengths, sizes, strict=True)
      if length is not None
    }
    if not rows:
      unknown.append(dim)
    elif None not in lengths and len(set(lengths)) == 1:
      if len(lengths) == 1 and dim == batch_dim and rows != {None}:
        found.append(dim)
    elif len(rows) == 1 and rows != {None}:
      found.append(dim)
    else:
      raise ValueError(
        f'dimension {dim} is not a multiple of the number of examples'
      )
  if len(found) > 1:
    raise ValueError(f'dimensions {found} all grow with the number of examples')
  if found:
    return found[0]
  return batch_dim if batch_dim in unknown else None


def _rows(length: int, size: int | None) -> int | None:
  return length // size if size and length and length % size == 0 else None


def varying_outputs(
  function: CellFunction, given: Sequence[bool]
) -> list[bool]:
  """Whether a varying input, or an op with a state, reaches each output."""
  fixed = {id(tensor) for tensor in function.weight_inputs}
  fixed.update(
    id(tensor)
    for tensor, varies in zip(function.data_inputs, given, strict=True)
    if not varies
  )
  varying = {id(t) for t in function.graph.inputs if id(t) not in fixed}
  operations = [
    op for op in function.graph.get_operations() if op.type != 'Placeholder'
  ]
  before = -1
  # A loop's variable gets its next value from an op behind it.
  while len(varying) > before:
    before = len(varying)
    for op in operations:
      if op._is_stateful or any(id(t) in varying for t in op.inputs):
        varying.update(id(t) for t in op.outputs)
  return [id(tensor) in varying for tensor in function.graph.outputs]
