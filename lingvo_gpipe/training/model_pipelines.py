# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pipelines of a model: their Params, and what is shown of them.

A model may hold a `PipeliningLayer` at any depth, and may repeat its Params at
levels above it.
"""

from lingvo.core import hyperparams

from lingvo_gpipe import pipelining_layer, schedules, sequential_layer
from lingvo_gpipe.training import listeners, logs, user_error


def walk(value):
  """Yields all Params in `value`, outermost first."""
  if isinstance(value, hyperparams.Params):
    yield value
    value = dict(value.IterParams())
  if isinstance(value, dict):
    value = list(value.values())
  if isinstance(value, (list, tuple)):
    for child in value:
      yield from walk(child)


def find(params, name):
  """The value of the outermost Param `name`, None if there is none."""
  return next((p.Get(name) for p in walk(params) if name in p), None)


def find_layers(params, cls):
  """Yields the Params of all layers of class `cls`, outermost first."""
  for p in walk(params):
    if 'cls' in p and isinstance(p.cls, type) and issubclass(p.cls, cls):
      yield p


def set_all(params, name, value, flag):
  """Sets every Param `name` as `flag` asks; UserError if there is none."""
  places = [p for p in walk(params) if name in p]
  if not places:
    raise user_error.UserError(
      f'--{flag}={value}: the model has no Param {name}; leave the flag out.'
    )
  for p in places:
    p.Set(**{name: value})


def pipelines(layer):
  """Yields the PipeliningLayers in a layer, or a model, outermost first."""
  if isinstance(layer, pipelining_layer.PipeliningLayer):
    yield layer
    return
  for child in layer.children.values():
    for one in child if isinstance(child, list) else [child]:
      yield from pipelines(one)


def cut_text(pipeline):
  """The table of a pipeline's cells, or their devices if it has none."""
  if isinstance(pipeline, sequential_layer.GPipeSequentialLayer):
    text = pipeline.table.to_text()
  else:
    devices = zip(pipeline.cells, pipeline.cell_devices, strict=True)
    text = '\n'.join(f'{cell.params.name}  {on}' for cell, on in devices)
  asked, count = pipeline.params.num_micro_batches, num_micro_batches(pipeline)
  if count is not None and count < asked:
    text += (
      f'\nnum_micro_batches (--micro_batches) is {asked}, but the mini-batch '
      f'has {count} examples: M = {count}, with one example each.'
    )
  return text


def num_micro_batches(pipeline):
  """M as it runs; None if the pipeline has run nothing yet."""
  schedule = pipeline.schedule
  return None if schedule is None else schedule.num_micro_batches


def schedule_that_runs(pipeline):
  """The Schedule of a pipeline whose graph is complete; None if it has none.

  It is forward only where no backward task came into the graph, as in a teacher
  whose outputs need no gradient.
  """
  schedule = pipeline.schedule
  if schedule is None or not pipeline.emitted:
    return schedule
  emitted = pipeline.emitted[-1].task_of_op.values()
  if any(task.kind != schedules.TaskKind.FORWARD for task in emitted):
    return schedule
  return schedules.make_schedule(
    schedule.name,
    schedule.cell_devices,
    schedule.num_micro_batches,
    forward_only=True,
  )


def constant_weight(weight):
  return (
    f'the weight of the loss is the constant {weight:g}, so micro-batches of '
    'different sizes count equally. Return as the weight the number that the '
    'loss was divided by; docs/check.md says more'
  )


class PipelineReport(listeners.StepListener):
  def trainer_built(self, runner):
    for pipeline in pipelines(runner.model):
      print(f'Pipeline {pipeline.path}:\n{cut_text(pipeline)}')
      schedule = schedule_that_runs(pipeline)
      if schedule is not None:
        print(schedules.grid(schedule, max_width=100), flush=True)
      weight = pipeline.constant_loss_weight
      if weight is not None:
        logs.warn(f'{pipeline.path}: {constant_weight(weight)}.')
