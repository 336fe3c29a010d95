# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a case's layers into cells, the same for every engine."""

from typing import Any

from lingvo_gpipe import pipeline_plan, sequential_layer
from lingvo_gpipe.benchmark import case_model
from lingvo_gpipe.benchmark.cases import Case

# In images this small much of the time is for starting ops.
_BALANCE = {'amoebanet': 'measured'}


def find(case: Case, num_cells: int) -> dict[str, Any]:
  """Cuts layers by their FLOPs, or by their time if that is what tells.

  The recompute policy is 'always' and M the case's own: cuts of one K must not
  differ.

  Returns:
    What JSON can hold: `splits`, the first layer of each cell but the first;
    `costs`, for each cell what forward and backward of a micro-batch take;
    `basis`, the unit of these: 'flops' or 'measured'.
  """
  model = case_model.make(case)
  micro_batch = case.batch // case.num_micro_batches
  params = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=model.layers,
    loss_tpl=model.loss,
    num_partitions=num_cells,
    num_micro_batches=case.num_micro_batches,
    balance=_BALANCE.get(case.model, 'flops'),
    input_shapes=model.input_shapes(micro_batch),
    target_shapes=model.target_shapes(micro_batch),
  )
  plan = pipeline_plan.plan(params, num_cells)
  found = plan.partition
  costs = []
  for cell in found.cells:
    layers = found.layers[cell.start : cell.end]
    costs.append(
      (
        float(sum(layer.forward for layer in layers)),
        float(sum(layer.backward for layer in layers)),
      )
    )
  return {
    'splits': list(found.splits),
    'layers': [layer.name for layer in found.layers],
    'costs': costs,
    'basis': plan.basis,
  }
