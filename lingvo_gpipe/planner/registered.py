# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registered models as workloads, without building them."""

from typing import Any

from lingvo import model_registry

from lingvo_gpipe import schedules, sequential_layer
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.planner.workload import AS_LISTED, Workload
from lingvo_gpipe.training import model_lookup, model_pipelines, user_error


def model_class(model: str) -> Any:
  """The class of a registered model; UserError if there is none."""
  return model_registry.GetClass(model_lookup.find_model(model))


def layer_params(model: str, cls: Any = None) -> Any:
  """A copy of the Params of a model's GPipeSequentialLayer; UserError if none.

  `cls` is the model's class, if not the registered one.
  """
  task = (cls or model_class(model))().Task()
  # Our tasks add what only they know: the loss, and shapes of targets.
  complete = getattr(task.cls, 'PipelineParams', None)
  if complete is not None:
    pipeline = complete(task)
  else:
    found = model_pipelines.find_layers(
      task, sequential_layer.GPipeSequentialLayer
    )
    pipeline = next(found, None)
  if pipeline is None or not issubclass(
    pipeline.cls, sequential_layer.GPipeSequentialLayer
  ):
    raise user_error.UserError(
      f'{model} has no GPipeSequentialLayer, so there is nothing to plan.'
    )
  pipeline = pipeline.Copy().Set(name=pipeline.name or 'pipeline')
  _copy_filters(task.train, pipeline)
  return pipeline


def _copy_filters(train: Any, pipeline: Any) -> None:
  """Gives a pipeline the learner's filters, but none of several learners'."""
  learner = train.learner if train.learner is not None else train
  names = 'bprop_variable_filter', 'bprop_variable_exclusion'
  if isinstance(learner, list | tuple) or any(map(pipeline.Get, names)):
    return
  for name in names:
    pipeline.Set(**{name: learner.Get(name)})


def workload(
  model: str, params: Any, mini_batch_size: int | None = None
) -> Workload:
  """What there is to plan for; by default with the model's own mini-batch.

  ValueError if a Param is not usable, or the mini-batch no multiple.
  """
  _, costs, spec, basis = pipeline_plan.cost_layers(
    params.Copy().Set(splits=[], num_partitions=1, device_memory=0), 1
  )
  num_micro_batches = spec.num_micro_batches
  if mini_batch_size is not None:
    size = spec.micro_batch_size
    if size is None:
      raise ValueError(
        f'{model}: --batch_size needs input_shapes, which say how many '
        'examples a micro-batch has.'
      )
    num_micro_batches, rest = divmod(mini_batch_size, size)
    if rest or not num_micro_batches:
      raise ValueError(
        f'--batch_size={mini_batch_size} is not a multiple of the {size} '
        'examples of input_shapes. Use a multiple, or other --input_shapes.'
      )
  return Workload(
    name=model,
    layers=tuple(costs),
    input_bytes=spec.input_bytes,
    skips=spec.skips,
    basis=basis,
    num_micro_batches=num_micro_batches,
    micro_batch_size=spec.micro_batch_size,
    schedule=spec.schedule,
    recompute=AS_LISTED if spec.kept else spec.recompute,
    kept=spec.kept,
    schedules=(
      tuple(n for n in schedules.schedule_names() if n != 'auto')
      if params.loss_tpl is not None
      else ('gpipe',)
    ),
    knows_activations=bool(params.input_shapes),
  )
