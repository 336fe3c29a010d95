# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A device for each cell, where a model fixes the number of its cells.

    --worker_split_size   model's K    trains on
    not given             open         1 device, 1 cell
    not given             4            4 devices
    4                     open         4 devices, 4 cells
    4 or more             4            4 devices
    2                     4            refused, unless the schedule has
                                       several cells on a device on purpose

Cells that share a device by mistake would be a pipeline in name only. What
evaluates a model may have fewer devices.
"""

import dataclasses

from lingvo_gpipe import (
  pipelining_layer,
  schedules,
  sequential_layer,
)
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.training import (
  pipeline_params,
  pipeline_report,
  user_error,
)


def _shares_devices(schedule):
  """Whether a schedule has several cells on a device on purpose."""
  return 'interleaved' in schedule


@dataclasses.dataclass(frozen=True)
class FixedPipeline:
  """A pipeline whose number of cells its Params fix.

  Attributes:
    name: The layer's name; '' if the model names it later.
    num_cells: K.
    schedule: The schedule's name.
    reason: What fixes K.
  """

  name: str
  num_cells: int
  schedule: str
  reason: str


def _fixed(params):
  """The number of cells and what fixes it; (0, '') if it is open."""
  if issubclass(params.cls, sequential_layer.GPipeSequentialLayer):
    if params.num_partitions:
      return params.num_partitions, f'num_partitions={params.num_partitions}'
    splits = pipeline_plan.splits_of(params)
    if splits:
      return len(splits) + 1, f'splits={list(splits)}'
    return 0, ''
  return len(params.cell_tpl), 'cell_tpl'


def fixed_pipelines(cfg, schedule=None):
  """The pipelines in a model's Params that fix their number of cells.

  Args:
    cfg: Params of a model.
    schedule: The schedule that a flag asks for, None for the Params' own.

  Returns:
    A list of FixedPipeline.
  """
  found = []
  for p in pipeline_params.find_layers(cfg, pipelining_layer.PipeliningLayer):
    num_cells, reason = _fixed(p)
    if num_cells:
      found.append(
        FixedPipeline(p.name, num_cells, schedule or p.schedule, reason)
      )
  return found


def built_pipelines(model):
  """The pipelines of a model, once it is built: also those open before.

  Returns:
    A list of FixedPipeline.
  """
  return [
    FixedPipeline(p.params.name, len(p.cells), p.params.schedule, 'as built')
    for p in pipeline_report.pipelines(model)
  ]


def check(pipelines, num_devices, given):
  """Checks that each cell has a device of its own.

  Args:
    pipelines: A list of FixedPipeline.
    num_devices: The devices of a pipeline.
    given: The flag that sets it: '--worker_split_size=2'.

  Raises:
    UserError: if there are fewer devices than cells.
  """
  for pipeline in pipelines:
    if pipeline.num_cells <= num_devices or _shares_devices(pipeline.schedule):
      continue
    name = f'pipeline {pipeline.name!r}' if pipeline.name else 'the pipeline'
    remedy = f'Give it {pipeline.num_cells} devices'
    if 'num_partitions' in pipeline.reason:
      remedy += ', or set num_partitions to 0, which is a cell for each device'
    sharing = [s for s in schedules.SCHEDULE_NAMES if _shares_devices(s)]
    if sharing:
      remedy += f', or let cells share devices by --schedule={sharing[0]}'
    raise user_error.UserError(
      f'{given}: {name} has {pipeline.num_cells} cells ({pipeline.reason}), '
      f'but only {num_devices} device(s). {remedy}.'
    )
