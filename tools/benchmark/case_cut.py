# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a case's layers into cells, the same for every engine."""

import dataclasses
from typing import Any

from lingvo_gpipe import pipeline_plan, sequential_layer
from lingvo_gpipe.partitioner import Partition, partition
from lingvo_gpipe.schedules import SCHEDULE_NAMES
from tools.benchmark import case_model
from tools.benchmark.cases import Case
from tools.benchmark.variants import methods_with

# In images this small much of the time is for starting ops.
_BALANCE = {'amoebanet': 'measured'}


def find(case: Case, num_cells: int) -> dict[str, Any]:
  """Cuts layers by their FLOPs, or by their time if that is what tells.

  The recompute policy is 'always' and M the case's own: cuts of one K must not
  differ. But where ours recomputes less it has the cut that is best for that.

  Returns:
    What JSON can hold, as `measured.Cut` has it.
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
  cut = _cut(found, plan.basis)
  own = {}
  for method in methods_with(SCHEDULE_NAMES, ('always', 'except_last')):
    if method.engine != 'ours':
      continue
    spec = dataclasses.replace(
      found.spec, schedule=method.schedule, recompute=method.recompute
    )
    other = _cut(partition(found.layers, spec), plan.basis)
    if other != cut:
      own[method.name] = other
  return {**cut, 'own': own}


def _cut(found: Partition, basis: str) -> dict[str, Any]:
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
    'basis': basis,
  }
