# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipelining layer that cuts a list of layers into cells."""

from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import cluster_factory

from lingvo_gpipe import schedules
from lingvo_gpipe.costing import costs_file, pipeline_plan
from lingvo_gpipe.pipeline.param_values import check_layers
from lingvo_gpipe.pipelining_layer import PipeliningLayer
from lingvo_gpipe.schedules import FIT

__all__ = ['GPipeSequentialLayer']


class GPipeSequentialLayer(PipeliningLayer):
  """A pipeline made of a list of layers, with the best cut.

  ```
    p = GPipeSequentialLayer.Params().Set(
      name='net',
      sub=[...],                       # layers
      num_partitions=4,                # K
      num_micro_batches=16,            # M
      input_shapes='float32[8,224,224,3]',
    )
  ```

  The cut minimises the cost of the largest cell. It depends only on the Params
  and the number of devices, and changes no bit of the result. Variables are
  named as in a `builder_layers.SequentialLayer` of the same name with the same
  `sub`, so checkpoints fit both.

  Attributes:
    plan: How the layers are cut, and what they cost.
    table: The cut as a table: data, and text by its `to_text()`.
  """

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define(
      'sub',
      [],
      'Params of the layers, in order. builder_layers.SequentialLayers, with '
      'repeat, and nested lists are flattened; a cut can go through them.',
    )
    p.Define(
      'num_partitions',
      0,
      'K, the number of cells. 0: what splits defines, or cells_per_device for '
      'each device of a model split (cluster.num_devices_per_split).',
    )
    p.Define(
      'cells_per_device',
      0,
      'How many cells a device has where num_partitions and splits are unset. '
      '0: 2 for zb_v, v_half, v_min and interleaved_1f1b, 1 for others.',
    )
    p.Define(
      'balance',
      'flops',
      'What the cut balances: "flops", counted by tracing each layer, forward, '
      'backward and recomputation; "params", the number of parameters, which '
      'also stands in where input_shapes is not set; "measured", the time of '
      'each layer on this machine; or a list with the time of each layer, '
      'forward and backward, in any unit.',
    )
    p.Define(
      'splits',
      [],
      'The index of the first layer of each cell but the first, among the '
      'flattened layers: [3, 5] makes cells of layers 0-2, 3-4 and 5 on. '
      'Overrides balance.',
    )
    p.Define(
      'device_memory',
      '',
      'The memory limit of a device: text such as "8GiB", or a number of '
      'bytes. Empty or 0: no limit. Needs input_shapes.',
    )
    p.Define(
      'input_shapes',
      '',
      'Shapes and dtypes of one micro-batch of the input: text such as '
      '"float32[16,8,8,1]" (several arguments with commas, a NestedMap with '
      'names: "ids=int32[16,32], paddings=float32[16,32]"), or a nest of '
      'tf.TensorSpec. Params.ToText keeps text, but not specs.',
    )
    p.Define('side_input_shapes', '', 'The same for side inputs, with names.')
    p.Define(
      'target_shapes',
      '',
      'The same for targets, to count the cost of the loss.',
    )
    p.Define(
      'optimizer_slots',
      2,
      'How many float32 numbers the optimizer keeps for each weight (Adam: 2).',
    )
    p.Define(
      'costs_file',
      '',
      'A JSON file that keeps the costs measured for balance="measured", and '
      'the orders found for schedule="auto". Processes that build one model '
      'must share it; otherwise their cuts may differ.',
    )
    return p

  def __init__(self, params: Any):
    if params.cell_tpl:
      raise ValueError(
        f'{params.name}.cell_tpl is set, but a GPipeSequentialLayer makes its '
        'cells itself. Put the layers into sub, or use a PipeliningLayer.'
      )
    check_layers(params.sub, f'{params.name}.sub', nested=True)
    super().__init__(params)
    self.table = self.plan.table(self.cell_devices)
    tf.logging.info('The cut of %s:\n%s', self.path, self.table.to_text())
    for warning in self.table.warnings():
      tf.logging.warning('%s: %s', self.path, warning)

  def _CellParams(self) -> list[Any]:
    num_devices = cluster_factory.Current().num_devices_per_split
    self.plan = pipeline_plan.make_plan(
      self.params, num_devices, self.trained_variables
    )
    return self.plan.cell_params()

  def _Recompute(self) -> str | Sequence[str]:
    spec = self.plan.partition.spec
    if not spec.kept:
      return spec.recompute
    kept = sorted(spec.kept)
    # Its costs are among those of the last layer.
    if self.params.recompute == FIT and self.plan.layers[-1].name in kept:
      kept += ['loss'] if self.params.loss_tpl is not None else []
    return kept

  def OrderProblem(
    self,
    cell_devices: Sequence[int],
    num_micro_batches: int,
    first_backward: int,
  ) -> schedules.OrderProblem | None:
    problem = costs_file.with_known_order(
      self.plan.partition.order_problem(
        cell_devices, num_micro_batches, first_backward
      ),
      self.params.costs_file,
    )
    best = schedules.find_best_order(problem)
    tf.logging.info(
      '%s: the schedule takes %.1f%% longer than the least possible.',
      self.path,
      100 * best.gap,
    )
    return problem

  @classmethod
  def Plan(cls, params: Any, num_devices: int) -> pipeline_plan.PipelinePlan:
    """The cut for a number of devices, without building the model.

    PartitionError if there is none, ValueError if a Param is not usable.
    """
    return pipeline_plan.make_plan(params, num_devices)
