# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether there are the devices that a model's pipelines need.

    --worker_split_size   model's K    trains on
    not given             open         1 device, 1 cell
    not given             4            4 devices
    4                     open         4 devices, 4 cells
    4 or more             4            4 devices
    2                     4            refused, unless the schedule has
                                       several cells on a device on purpose
                                       (then not given is 2 devices, too)

What evaluates a model may have fewer devices.
"""

import collections
from typing import NamedTuple

import lingvo.compat as tf

from lingvo_gpipe import pipelining_layer, schedules, sequential_layer
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.schedules import registry
from lingvo_gpipe.training import model_pipelines, user_error

_MIB = 2**20


class FixedPipeline(NamedTuple):
  """A pipeline whose number of cells is known, and what fixes it."""

  name: str  # '' if the model names it later.
  num_cells: int
  schedule: str
  reason: str

  @property
  def num_devices(self) -> int:
    count, rest = divmod(
      self.num_cells, schedules.cells_per_device(self.schedule)
    )
    return self.num_cells if rest else count


def fixed_pipelines(cfg, schedule=None):
  """The pipelines in a model's Params that fix their number of cells."""
  found = []
  for p in model_pipelines.find_layers(cfg, pipelining_layer.PipeliningLayer):
    if not issubclass(p.cls, sequential_layer.GPipeSequentialLayer):
      num_cells, reason = len(p.cell_tpl), 'cell_tpl'
    elif p.num_partitions:
      num_cells = p.num_partitions
      reason = f'num_partitions={num_cells}'
    elif splits := pipeline_plan.splits_of(p):
      num_cells, reason = len(splits) + 1, f'splits={list(splits)}'
    else:
      continue
    found.append(
      FixedPipeline(p.name, num_cells, schedule or p.schedule, reason)
    )
  return found


def built_pipelines(model):
  """The pipelines of a built model as FixedPipelines: also the open ones."""
  return [
    FixedPipeline(p.params.name, len(p.cells), p.params.schedule, 'as built')
    for p in model_pipelines.pipelines(model)
  ]


def check(pipelines, num_devices, given):
  """Raises UserError if cells would not be on devices as they should.

  `given` is the flag that sets `num_devices`: '--worker_split_size=2'.
  """
  for pipeline in pipelines:
    places = schedules.place(pipeline.schedule, pipeline.num_cells, num_devices)
    shares = schedules.cells_per_device(pipeline.schedule) > 1
    fits = registry.fits(pipeline.schedule, places)
    if fits and (shares or pipeline.num_cells <= num_devices):
      continue
    name = f'pipeline {pipeline.name!r}' if pipeline.name else 'the pipeline'
    raise user_error.UserError(
      f'{given}: {name} has {pipeline.num_cells} cells ({pipeline.reason}), '
      f'but only {num_devices} device(s) under {pipeline.schedule!r}. Give it '
      f'{pipeline.num_cells} devices, other cells, or a schedule that runs '
      'several on each device, such as --schedule=interleaved_1f1b.'
    )


def check_gpus(wanted, flag):
  """Raises UserError if TensorFlow sees fewer GPUs than `flag` asks for."""
  there = len(tf.config.list_physical_devices('GPU'))
  if there >= wanted:
    return
  remedy = f'Use {there} or fewer'
  if not there:
    remedy = (
      'Check with nvidia-smi whether the driver finds any, and install '
      "TensorFlow with pip install 'tensorflow[and-cuda]'; or train with "
      '--run_locally=cpu'
    )
  raise user_error.UserError(
    f'{flag}: {wanted} GPU(s) are requested, but TensorFlow finds {there} on '
    f'this machine. {remedy}.'
  )


def check_buckets(model):
  """Raises UserError if a bucket has fewer examples than M.

  Each bucket has its own batch size, which is known only when a step runs.
  """
  for task in model.tasks:
    p = task.params.input
    if p is None or not ('bucket_batch_limit' in p and p.bucket_batch_limit):
      continue
    size = min(p.bucket_batch_limit)
    bucket = p.bucket_batch_limit.index(size)
    for pipeline in model_pipelines.pipelines(task):
      # Where the batch is known when the graph is built, M fits already.
      count = model_pipelines.num_micro_batches(pipeline) or 0
      if size < count:
        raise user_error.UserError(
          f'{pipeline.path}: num_micro_batches (--micro_batches) is {count}, '
          f'but bucket {bucket} (bucket_upper_bound '
          f'{p.bucket_upper_bound[bucket]}) of the input has batches of {size} '
          f'examples (bucket_batch_limit). Set num_micro_batches to {size} or '
          f'less, or that bucket_batch_limit to {count} or more.'
        )


def weights_text(graph):
  """One line on the bytes of variables that each process holds."""
  with graph.as_default():
    variables = tf.global_variables()
    trainable = {v.ref() for v in tf.trainable_variables()}
  weights: dict[str, float] = collections.defaultdict(float)
  total: dict[str, float] = collections.defaultdict(float)
  for variable in variables:
    spec = tf.DeviceSpec.from_string(variable.device)
    place = f'/job:{spec.job}/task:{spec.task}'
    size = variable.shape.num_elements() * variable.dtype.size / _MIB
    weights[place] += size * (variable.ref() in trainable)
    total[place] += size
  parts = [f'{p} {weights[p]:.3f} ({total[p]:.3f})' for p in sorted(total)]
  text = ', '.join(parts)
  return f'Weights in MiB (with optimizer slots and counters): {text}'
