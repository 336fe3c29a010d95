# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What eager calls have traced, for the next call like them.

In a graph a pipeline is built once. Eagerly its FProp is called for each step,
and to trace the cells takes many times as long as to run them.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine.cell_function import CellFunction
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell, Trace
from lingvo_gpipe.pipeline.loss import PipelineLoss


@dataclasses.dataclass
class EagerTraces:
  """What calls of one kind have traced.

  Attributes:
    variables: The weights that the traces know by their identity.
    functions: The cells' functions, for inputs of some shapes.
    cells: What the trace of each cell found.
    loss: The loss, if it is in the pipeline, which knows its metrics.
  """

  variables: list[tf.Variable]
  functions: dict[Any, list[CellFunction]] = dataclasses.field(
    default_factory=dict
  )
  cells: list[Trace | None] = dataclasses.field(default_factory=list)
  loss: PipelineLoss | None = None

  def hand_on(
    self, cells: Sequence[LingvoCell], loss: PipelineLoss | None
  ) -> PipelineLoss | None:
    """Exchanges with a call what a trace leaves besides functions.

    Args:
      cells: The cells of the call, traced or not.
      loss: The loss of the call.

    Returns:
      The loss to use.
    """
    if not self.cells:
      self.cells, self.loss = [cell.trace for cell in cells], loss
    for cell, trace in zip(cells, self.cells, strict=True):
      cell.trace = cell.trace or trace
    return self.loss


def of_kind(
  kept: dict[Hashable, EagerTraces],
  cells: Sequence[LingvoCell],
  *kind: Hashable,
) -> EagerTraces:
  """The traces of calls of one kind; in graphs none are kept.

  Args:
    kept: Those of a layer.
    cells: The cells of the call.
    kind: What the traces depend on besides the cells and the inputs' shapes.
  """
  leaves = [leaf for cell in cells for leaf in cell.weights]
  variables = [leaf for leaf in leaves if isinstance(leaf, tf.Variable)]
  traces = EagerTraces(variables)
  if not tf.executing_eagerly():
    return traces
  of_cells = tuple((tuple(cell.trained), *cell.tables) for cell in cells)
  specs = tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves)
  return kept.setdefault((of_cells, specs, *map(id, variables), *kind), traces)


def forget_what_captures(
  kept: dict[Hashable, EagerTraces], traces: EagerTraces
) -> None:
  """Drops traces that hold a value of the call that they were made in."""
  if any(f.captures for row in traces.functions.values() for f in row):
    for kind in [kind for kind, other in kept.items() if other is traces]:
      del kept[kind]
