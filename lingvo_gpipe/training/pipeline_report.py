# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shows how a model is cut and in which order its tasks run, at the start."""

from lingvo_gpipe import pipelining_layer, schedules, sequential_layer
from lingvo_gpipe.training import listeners, logs

# Characters of a row of a schedule's drawing.
_MAX_WIDTH = 100


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
  """Prints the cut and the schedule of each pipeline before the first step."""

  def __init__(self, stream):
    self._stream = stream

  def trainer_built(self, runner):
    for pipeline in pipelines(runner.model):
      print(
        f'Pipeline {pipeline.path}:\n{cut_text(pipeline)}', file=self._stream
      )
      schedule = schedule_that_runs(pipeline)
      if schedule is not None:
        grid = schedules.grid(schedule, max_width=_MAX_WIDTH)
        print(grid, file=self._stream)
      self._stream.flush()
      weight = pipeline.constant_loss_weight
      if weight is not None:
        logs.warn(f'{pipeline.path}: {constant_weight(weight)}.')
