# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Does outside of a cell what its layers would have done without one."""

from collections.abc import Callable, Sequence

import lingvo.compat as tf

from lingvo_gpipe.engine import micro_batches, placement
from lingvo_gpipe.engine.cell_function import CellOutputs
from lingvo_gpipe.pipeline import moving_averages, summaries
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell


def apply(
  cell: LingvoCell,
  results: Sequence[CellOutputs],
  shares: Callable[[], Sequence[tf.Tensor]],
  device: str,
  fetched_dims: Sequence[micro_batches.Dims],
) -> list[tf.Tensor]:
  """Sets accumulators and fetched activations, adds updates and summaries.

  Args:
    cell: The cell, traced.
    results: What it returned for each micro-batch.
    shares: Gives each micro-batch's share of the examples.
    device: The cell's device.
    fetched_dims: For each fetch layer, the dimensions along which to join what
      it fetched.

  Returns:
    The statistics that updates of moving averages use: the pipeline's outputs
    must depend on them.
  """
  cell.set_carry(results[-1].carry)
  values = [cell.split_values(result.values) for result in results]
  if cell.trace.summaries:
    summaries.emit(
      cell.trace.summaries, [v.summaries for v in values], shares(), device
    )
  for i, (fetch, count) in enumerate(cell.trace.fetched):
    with placement.on_device(device):
      fetch._activations = micro_batches.merge(
        [v.fetched[i] for v in values], fetched_dims[i]
      )
    # The gradients that a fetch layer keeps are those of one micro-batch.
    fetch._gradients = [None] * count
  return moving_averages.update(
    cell.trace.updates, [v.moving_averages for v in values], device
  )
