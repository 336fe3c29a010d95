# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cell of a PipeliningLayer computes: its layers, perhaps the loss."""

from typing import Any

from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.pipeline import named_values, seeds, wiring
from lingvo_gpipe.pipeline.feature_extraction_layer import describe, to_tuple
from lingvo_gpipe.pipeline.loss import PipelineLoss
from lingvo_gpipe.pipeline.side_inputs import TARGETS_VALUE

# What a layer raises if it is given something else than it is written for.
_MISFITS = (TypeError, ValueError, AttributeError, KeyError)


class CellFProp:
  """Called while the cell is traced; see `lingvo_cell.CellFProp`."""

  def __init__(self, layer, k: int, loss: PipelineLoss | None):
    """Prepares cell `k`.

    Args:
      layer: The PipeliningLayer.
      k: The cell's number.
      loss: The loss, if it is in the pipeline; it is in the last cell.
    """
    self._layer = layer
    self._k = k
    self._cell = layer.cells[k]
    self._loss = loss if k == len(layer.cells) - 1 else None

  def __call__(self, theta: list[Any], given: CellInputs) -> CellOutputs:
    """Runs the layers.

    Args:
      theta: The cell's weights, then the loss's if it is in the cell.
      given: Its inputs; the side inputs are (targets, values by name). What of
        these has a gradient is among the values taken instead.
    """
    targets, side_inputs = given.side_inputs
    taken = dict(given.taken)
    targets = taken.pop(TARGETS_VALUE, targets)
    with named_values.scope({**side_inputs, **taken}) as values:
      outputs, own = self._run(theta[0], given.inputs), []
      if self._loss is not None:
        metrics = self._run_loss(theta[1], outputs, targets)
        outputs, own = self._loss.in_cell(self._layer.loss, metrics)
    wired = self._layer.cell_wiring[self._k]
    self._check_put(values, wired)
    return CellOutputs(
      outputs,
      values=own,
      put={name: values.rest(name) for name in wired.puts},
      rests={name: values.rest(name) for name in taken},
    )

  def _run(self, theta: Any, inputs: Any) -> Any:
    try:
      with seeds.in_layer(self._cell.path):
        return self._cell.FProp(theta, *to_tuple(inputs))
    except _MISFITS as error:
      names = [cell.params.name for cell in self._layer.cells]
      k = self._k
      source = (
        f'cell {names[k - 1]!r} returns' if k else 'the pipeline was given'
      )
      raise ValueError(
        f'{self._layer.path}: cell {names[k]!r} cannot run on what {source}, '
        f'{describe(inputs)}: {error}{_on_dicts(inputs)}'
      ) from error

  def _run_loss(self, theta: Any, outputs: Any, targets: Any) -> Any:
    layer = self._layer.loss
    try:
      with seeds.in_layer(layer.path):
        return layer.FProp(theta, outputs, targets)
    except _MISFITS as error:
      raise ValueError(
        f'{self._layer.path}: the loss, {layer.path} '
        f'({type(layer).__name__}), cannot run on what cell '
        f'{self._cell.params.name!r} returns, {describe(outputs)}, and the '
        f'targets, {describe(targets)}: {error}{_on_dicts((outputs, targets))}'
      ) from error

  def _check_put(
    self, values: named_values.Scope, wired: wiring.CellWiring
  ) -> None:
    missing = set(wired.puts) - set(values.put_names)
    if missing:
      raise ValueError(
        f'{self._layer.path}: a layer of cell {self._cell.params.name!r} '
        f'declares that it puts {sorted(missing)}, but its FProp did not.'
      )


def _on_dicts(nest: Any) -> str:
  """What to do if a layer that takes a NestedMap was given a plain dict."""
  if type(nest) is dict:
    return ' (a dict is given; what reads `inputs.x` needs a NestedMap)'
  parts = nest if isinstance(nest, list | tuple) else ()
  return next(filter(None, map(_on_dicts, parts)), '')
