# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which dimension of what cells return counts the examples.

Two traces for micro-batches of different sizes tell: that dimension grows with
the number of examples, and no other does.

```
  2 examples   logits [2, 5]   state [6, 2]   mean [2]   similarity [2, 2]
  3 examples   logits [3, 5]   state [6, 3]   mean [2]   similarity [3, 3]
  dimension    0               1              none       no single one
```

A tensor without such a dimension, a statistic, cannot be joined, unless it does
not depend on the micro-batch at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.cell import Cell
from lingvo_gpipe.engine.cell_function import CellFunction


def find(
  shapes: Sequence[tf.TensorShape],
  sizes: Sequence[int | None],
  batch_dim: int,
) -> int | None:
  """The dimension of a tensor that counts the examples.

  Args:
    shapes: Its static shape in one trace or two.
    sizes: The number of examples in each; None if the trace did not know it.
    batch_dim: Which dimension to take where shapes are not known.

  Returns:
    The dimension; None if the tensor has the same shape for all sizes.

  Raises:
    ValueError: Several dimensions depend on the number of examples, or one is
      no multiple of it.
  """
  if any(shape.rank is None for shape in shapes):
    return batch_dim
  found, unknown = [], []
  for dim, lengths in enumerate(
    zip(*(s.as_list() for s in shapes), strict=True)
  ):
    known = [
      (length, size)
      for length, size in zip(lengths, sizes, strict=True)
      if length is not None
    ]
    if not known:
      unknown.append(dim)
    elif len(known) == len(lengths) and len(set(lengths)) == 1:
      if len(lengths) == 1 and dim == batch_dim and _multiple(*known[0]):
        found.append(dim)
    elif all(_multiple(*pair) for pair in known) and _same_rows(known):
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


def _multiple(length: int, size: int | None) -> bool:
  return size is not None and length > 0 and length % size == 0


def _same_rows(known: Sequence[tuple[int, int]]) -> bool:
  return len({length // size for length, size in known}) == 1


def varying_outputs(
  cells: Sequence[Cell],
  functions: Sequence[CellFunction],
  inputs: Sequence[bool],
  side_inputs: Sequence[Sequence[bool]],
  given: Mapping[str, Sequence[bool]],
) -> list[list[bool]]:
  """Which results of each cell may differ between micro-batches.

  Args:
    cells: The K cells.
    functions: Their traces.
    inputs: For each tensor of the first cell's input, whether it may.
    side_inputs: The same for each cell's side input.
    given: The same for each value that comes from outside.

  Returns:
    For each cell, a flag for each tensor that its function returns.
  """
  results: list[list[bool]] = []
  put = {name: list(flags) for name, flags in given.items()}
  for cell, function, side in zip(cells, functions, side_inputs, strict=True):
    data = list(inputs)
    for name in sorted(cell.takes):
      data += put[name]
    flags = _varying(function, [*data, *side])
    results.append(flags)
    inputs = flags[: _count(function.outputs)]
    start = len(inputs)
    for name in sorted(function.put):
      end = start + _count(function.put[name])
      put[name] = flags[start:end]
      start = end
  return results


def _count(nest: Any) -> int:
  return sum(leaf is not None for leaf in tf.nest.flatten(nest))


def _varying(function: CellFunction, given: Sequence[bool]) -> list[bool]:
  """For each output of a cell's trace, whether a varying input reaches it.

  What an op with a state returns varies as well.
  """
  fixed = {id(tensor) for tensor in function.weight_inputs()}
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
