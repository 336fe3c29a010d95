# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a case's layers into cells, the same for every engine."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.cutting.partitioner import Partition, partition
from lingvo_gpipe.schedules import PLAIN_NAMES
from tools.benchmark import case_model, servers
from tools.benchmark.cases import Case
from tools.benchmark.measured import Cut

# In images this small much of the time is for starting ops.
_BALANCE = {'amoebanet': 'measured'}


def find(case: Case, num_cells: int) -> Cut:
  """Cuts layers by their FLOPs, or by their time if that is what tells.

  The recompute policy is 'always' and M the case's own: cuts of one K must not
  differ. But where ours recomputes less it has the cut that is best for that.
  """
  same = dataclasses.replace(
    case, num_cells=num_cells, schedule='gpipe', recompute='always'
  )
  plan = _plan(same, _BALANCE.get(case.model, 'flops'))
  found = plan.partition
  cut = _cut(found, plan.basis)
  for how in itertools.product(PLAIN_NAMES, ('always', 'except_last')):
    spec = dataclasses.replace(found.spec, schedule=how[0], recompute=how[1])
    other = _cut(partition(found.layers, spec), plan.basis)
    if other.splits != cut.splits:
      cut.own['-'.join(('ours', *how))] = other
  return cut


def planned(case: Case, splits: Sequence[int] | None = None) -> Partition:
  """The case's cut by FLOPs and the memory model, for splits if given."""
  found = _plan(case, 'flops').partition
  return partition(found.layers, found.spec, splits)


def measured(case: Case, core: int) -> Partition:
  """The case's cut by the time of each layer, measured on one core.

  This process must not have run TensorFlow.
  """
  servers.pin(core)
  tf.disable_eager_execution()
  return _plan(case, 'measured').partition


def _plan(case: Case, balance: str) -> Any:
  model = case_model.make(case)
  params = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=model.layers,
    loss_tpl=model.loss,
    num_partitions=case.num_cells,
    num_micro_batches=case.num_micro_batches,
    schedule=case.schedule,
    recompute=case.recompute,
    balance=balance,
    input_shapes=model.inputs.described(case.micro_batch_size),
    target_shapes=model.target_shapes(case.micro_batch_size),
  )
  return pipeline_plan.make_plan(params, case.num_cells)


def _cut(found: Partition, basis: str) -> Cut:
  layers = found.layers
  cells = [layers[cell.start : cell.end] for cell in found.cells]
  costs = [
    (
      float(sum(layer.forward for layer in cell)),
      float(sum(layer.backward for layer in cell)),
    )
    for cell in cells
  ]
  return Cut(list(found.splits), [layer.name for layer in layers], costs, basis)
