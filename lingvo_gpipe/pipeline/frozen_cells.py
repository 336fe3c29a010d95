# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cells that run forward only, since nothing up to them is trained."""

from collections.abc import Callable, Sequence

import lingvo.compat as tf

from lingvo_gpipe.engine import gradient_bridge, tensor_specs
from lingvo_gpipe.pipeline import input_gradients, trained_variables
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell


def first_trained(
  layer, cells: Sequence[LingvoCell], values: Callable[[int], Sequence[str]]
) -> int:
  """The first cell that the backward pass must reach; K if it reaches none.

  Those before have frozen weights and none that are trained, and no weight of
  before the pipeline is trained by way of them.

  Args:
    layer: The PipeliningLayer, whose inputs need no gradient.
    cells: Its cells.
    values: Gives the names of the side inputs with gradients of a cell.
  """
  is_trained = layer.trained_variables
  frozen = False
  for k, cell in enumerate(cells):
    if values(k) or any(
      trained and tensor_specs.differentiable(weight)
      for weight, trained in zip(cell.weights, cell.trained, strict=True)
    ):
      return k if frozen else 0
    frozen = frozen or any(
      v.trainable and not is_trained(v) for v in layer.cells[k].vars.Flatten()
    )
  return len(cells) if frozen else 0


def check_captures(layer, k: int, captures: Sequence[tf.Tensor]) -> None:
  """Checks that a cell without backward tasks needs none after all.

  Args:
    layer: The PipeliningLayer.
    k: The cell.
    captures: What it uses of the graph around it.

  Raises:
    ValueError: Some of that comes from trained weights.
  """
  floats = [t for t in captures if tensor_specs.differentiable(t)]
  is_trained = layer.trained_variables.by_name
  if input_gradients.may_be_needed(floats, is_trained):
    raise ValueError(
      f'{layer.path}: nothing up to cell {layer.cells[k].params.name!r} is '
      'trained, but its layers use tensors from outside that come from '
      f'trained weights, among {[t.name for t in floats][:3]}; these would '
      'get no gradient. Hand them to the pipeline as inputs.'
    )


def refused(
  layer,
  cells: Sequence[LingvoCell],
  weights: Callable[[int], Sequence[tf.Tensor]],
  inputs: Sequence[tf.Tensor],
) -> list[gradient_bridge.Source]:
  """What has no gradient because it is not trained.

  Args:
    layer: The PipeliningLayer.
    cells: Its cells.
    weights: Gives the frozen weights of a cell, as tensors.
    inputs: The pipeline's inputs, if the first cell is frozen.
  """
  trained = layer.trained_variables
  rows = [(layer.cell_devices[0], inputs, 'an input')]
  for k, device in enumerate(layer.cell_devices):
    variables = [v for part in cells[k].layers for v in part.vars.Flatten()]
    names = [v.name for v in variables if not trained(v)]
    what = f'a weight, one of {trained_variables.first_of(names)},'
    rows.append((device, weights(k), what))
  return [
    trained_variables.refusing_source(
      device,
      [t for t in tensors if tensor_specs.differentiable(t)],
      trained_variables.not_trained(what, layer.path, trained),
    )
    for device, tensors, what in rows
  ]
