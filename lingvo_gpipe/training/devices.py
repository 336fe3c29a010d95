# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether there are the devices and examples that a model's pipelines need.

    --worker_split_size   model's K    trains on
    not given             open         1 device, 1 cell
    not given             4            4 devices
    4                     open         4 devices, 4 cells
    4 or more             4            4 devices
    2                     4            refused, unless the schedule has
                                       several cells on a device on purpose
                                       (then not given is 2 devices, too)

Cells that share a device by mistake would be a pipeline in name only. What
evaluates a model may have fewer devices.
"""

import collections
import dataclasses

import lingvo.compat as tf

from lingvo_gpipe import pipelining_layer, schedules, sequential_layer
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.schedules import placement
from lingvo_gpipe.training import pipeline_params, pipeline_report, user_error

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class FixedPipeline:
  """A pipeline whose number of cells its Params fix.

  Attributes:
    name: The layer's name; '' if the model names it later.
    reason: What fixes K.
  """

  name: str
  num_cells: int
  schedule: str
  reason: str

  @property
  def num_devices(self) -> int:
    """How many devices it takes."""
    count, rest = divmod(
      self.num_cells, schedules.cells_per_device(self.schedule)
    )
    return self.num_cells if rest else count


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
  """The pipelines in a model's Params that fix their number of cells."""
  found = [
    FixedPipeline(p.name, num_cells, schedule or p.schedule, reason)
    for p in pipeline_params.find_layers(cfg, pipelining_layer.PipeliningLayer)
    for num_cells, reason in [_fixed(p)]
  ]
  return [pipeline for pipeline in found if pipeline.num_cells]


def built_pipelines(model):
  """The pipelines of a built model as FixedPipelines: also the open ones."""
  return [
    FixedPipeline(p.params.name, len(p.cells), p.params.schedule, 'as built')
    for p in pipeline_report.pipelines(model)
  ]


def check(pipelines, num_devices, given):
  """Raises UserError if cells would not be on devices as they should.

  Args:
    num_devices: The devices of a pipeline.
    given: The flag that sets it: '--worker_split_size=2'.
  """
  for pipeline in pipelines:
    places = schedules.place(pipeline.schedule, pipeline.num_cells, num_devices)
    # Cells share a device by mistake, unless the schedule wants it.
    shares = schedules.cells_per_device(pipeline.schedule) > 1
    fits = placement.fits(pipeline.schedule, places)
    if fits and (shares or pipeline.num_cells <= num_devices):
      continue
    name = f'pipeline {pipeline.name!r}' if pipeline.name else 'the pipeline'
    remedy = f'Give it {pipeline.num_cells} devices'
    if 'num_partitions' in pipeline.reason:
      remedy += ', or set num_partitions to 0, which is a cell for each device'
    if shares:
      remedy = (
        f'Schedule {pipeline.schedule!r} needs the same number of cells on '
        'each device (exactly two under zb_v, v_half and v_min): change the '
        'number of cells or of devices'
      )
    else:
      remedy += (
        ', or choose a schedule that runs several cells on each device, such '
        'as --schedule=interleaved_1f1b'
      )
    raise user_error.UserError(
      f'{given}: {name} has {pipeline.num_cells} cells ({pipeline.reason}), '
      f'but only {num_devices} device(s). {remedy}.'
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

  Sequences of different lengths come in buckets, each with a batch size of its
  own, which is known only when a step runs.
  """
  for task in model.tasks:
    p = task.params.input
    if p is None or not ('bucket_batch_limit' in p and p.bucket_batch_limit):
      continue
    for pipeline in pipeline_report.pipelines(task):
      # Where the batch is known when the graph is built, M fits already.
      count = pipeline_report.num_micro_batches(pipeline) or 0
      limit = min(p.bucket_batch_limit)
      if limit >= count:
        continue
      bucket = p.bucket_batch_limit.index(limit)
      raise user_error.UserError(
        f'{pipeline.path}: num_micro_batches (--micro_batches) is {count}, but '
        f'bucket {bucket} (bucket_upper_bound {p.bucket_upper_bound[bucket]}) '
        f'of the input has batches of {limit} examples (bucket_batch_limit): '
        f'too few to train with. Set num_micro_batches to {limit} or less, or '
        f'that bucket_batch_limit to {count} or more.'
      )


def weights_text(graph):
  """One line on the bytes of variables that each device or worker holds."""
  with graph.as_default():
    variables = tf.global_variables()
    trainable = {v.ref() for v in tf.trainable_variables()}
  specs = {v.ref(): tf.DeviceSpec.from_string(v.device) for v in variables}
  several = len({(spec.job, spec.task) for spec in specs.values()}) > 1
  totals = collections.defaultdict(lambda: [0, 0])
  for variable in variables:
    spec = specs[variable.ref()]
    place = f'/job:{spec.job}/task:{spec.task}' if several else variable.device
    size = variable.shape.num_elements() * variable.dtype.size / _MIB
    totals[place][0] += size if variable.ref() in trainable else 0
    totals[place][1] += size
  parts = [
    f'{place} {weights:.3f} ({total:.3f})'
    for place, (weights, total) in sorted(totals.items())
  ]
  return 'Weights in MiB (with optimizer slots and counters): ' + ', '.join(
    parts
  )
