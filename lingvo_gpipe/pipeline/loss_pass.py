# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradients that one pass through the cells starts from, for one metric."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import lingvo.compat as tf

from lingvo_gpipe.engine import engine, placement
from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.loss import PipelineLoss
from lingvo_gpipe.pipeline.mini_batch import MiniBatch
from lingvo_gpipe.schedules import Task


class LossPass:
  """Runs an engine from the gradients of a loss that is in the last cell."""

  def __init__(
    self,
    loss: PipelineLoss,
    the_engine: engine.Engine,
    last_cell: LingvoCell,
    batch: MiniBatch,
    devices: list[str],
  ):
    """Prepares.

    Args:
      loss: The loss.
      the_engine: An engine that has run no task yet.
      last_cell: Its last cell.
      batch: The mini-batch.
      devices: The device of each cell.
    """
    self.engine = the_engine
    self._loss = loss
    self._last_cell = last_cell
    self._batch = batch
    self._devices = devices
    self._seeds: dict[int, tf.Tensor] = {}

  def run(self, tasks: Sequence[Task]) -> None:
    """Emits tasks, forward and backward."""
    start = engine.LossGradients(
      lambda m: [self._seed(m)] if self._loss.has_output else [],
      self._aux_seeds,
    )
    self.engine.run(tasks, start)

  def values(self, m: int) -> list[tf.Tensor]:
    """The values that the loss returned for a micro-batch."""
    values = self.engine.results(len(self._devices) - 1, m).values
    return self._last_cell.split_values(values).own

  @functools.cached_property
  def scale(self) -> tf.Tensor:
    """By what gradients are scaled until the loss's weight is known."""
    return self._loss.scale(
      self.values(0), self._batch.clock.sizes[0], self._batch.count
    )

  def _seed(self, m: int) -> tf.Tensor:
    """The gradient of a micro-batch's loss, scaled."""
    if m not in self._seeds:
      scale = self.scale
      with placement.on_device(self._devices[-1]):
        self._seeds[m] = self._loss.loss_weight(self.values(m)) * scale
    return self._seeds[m]

  def _aux_seeds(self, k: int, m: int) -> list[tf.Tensor]:
    """The gradients of cell `k`'s auxiliary losses."""
    seed = self._seed(m)
    with placement.on_device(self._devices[k]):
      return [
        tf.cast(seed, loss.dtype) for loss in self.engine.results(k, m).losses
      ]


def cells_of(
  loss: PipelineLoss, cells: Sequence[engine.Cell], last_cell: LingvoCell
) -> list[engine.Cell]:
  """The cells of a pass for another metric than the loss.

  Args:
    loss: The metric.
    cells: The cells of the pass for the loss.
    last_cell: The last cell, with `loss` in it.
  """
  found = [*cells]
  found[-1] = dataclasses.replace(found[-1], body=last_cell.body)
  if loss.has_aux_losses:
    return found
  return [
    dataclasses.replace(cell, body=_without_losses(cell.body)) for cell in found
  ]


def _without_losses(
  body: Callable[[CellInputs], CellOutputs],
) -> Callable[[CellInputs], CellOutputs]:
  """A cell's body that adds no auxiliary losses."""
  return lambda given: dataclasses.replace(body(given), losses=[])
