# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a model, through its plain layers or its pipelines."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import lingvo.compat as tf
import numpy as np
from lingvo.core import bn_layers, cluster_factory, py_utils

from lingvo_gpipe import cluster, cpu_devices
from lingvo_gpipe.pipeline import plain_run
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  descendants,
)
from lingvo_gpipe.training import model_pipelines, user_error

_BATCH_NORMS = (bn_layers.BatchNormLayer, bn_layers.BatchNormLayerNoPadding)

# {name: (value, weight)}.
Metrics: TypeAlias = dict[str, tuple[float, float]]


class Given(NamedTuple):
  """What every way of running the model is given."""

  batches: list[Any]  # For each task, a NestedMap of tensor specs.
  values: list[np.ndarray]  # Of these, in order.
  variables: dict[str, np.ndarray]  # {name: value}.


class Loss(NamedTuple):
  """What a loss layer returned after plain layers."""

  whole: Metrics  # For the mini-batch.
  parts: list[Metrics]  # For each micro-batch; empty if not known.
  weight_is_trained: bool  # The loss's weight depends on trained variables.


class Result(NamedTuple):
  """What one way gave; gradients by names of loss, layer and variable."""

  metrics: dict[str, float]
  gradients: dict[tuple[str, str, str], np.ndarray | None]
  num_cells: int  # Of the largest pipeline.
  num_micro_batches: int  # Likewise; 1 without a pipeline.
  batch_norms: list[str]  # Names of cells' layers that have it.
  losses: dict[str, Loss]  # Plain layers', by the pipeline's path.


def run(
  params: Any,
  num_devices: int,
  given: Given | None = None,
  *,
  plain: bool = False,
  steps: Sequence[int] = (0,),
) -> tuple[list[Result], Given]:
  """Builds the model in a graph of its own, and runs it on one mini-batch.

  `given` None takes the input's next mini-batch, and initial weights. `plain`
  runs layers in sequence, without a pipeline, at the global steps `steps`.
  UserError if the model has no pipeline.
  """
  cluster_params = cluster.PipelineCluster.Params()
  cluster_params.Set(mode='sync', job='trainer_client')
  cluster.use_cpu_devices(cluster_params, num_devices)
  config = cpu_devices.session_config(num_devices)
  with (
    tf.Graph().as_default() as graph,
    cluster_params.Instantiate() as current,
    tf.device(current.GetPlacer()),
  ):
    model = _Model(params, given, plain=plain)
    with tf.Session(graph=graph, config=config) as session:
      given = model.initialise(session, given)
      return [model.run(session, given, step) for step in steps], given


class _Model:
  def __init__(self, params: Any, given: Given | None, *, plain: bool):
    self._step = py_utils.GetOrCreateGlobalStepVar()
    self._model = params.Copy().Instantiate()
    self._pipelines = list(model_pipelines.pipelines(self._model))
    if not self._pipelines:
      raise user_error.UserError(f'{params.name}: the model has no pipeline.')
    self._layers = self._layers_of_variables()
    if given is None:
      self._batches = [
        task.GetInputBatch()[0].Transform(tf.convert_to_tensor)
        for task in self._model.tasks
      ]
    else:
      self._batches = [
        batch.Transform(lambda spec: tf.placeholder(spec.dtype, spec.shape))
        for batch in given.batches
      ]
    self._leaves = [leaf for b in self._batches for leaf in b.Flatten()]
    # What a Result has of the same names, as tensors.
    self._metrics: dict[str, Any] = {}
    self._gradients: dict[tuple[str, str, str], tf.Tensor | None] = {}
    with contextlib.ExitStack() as stack:
      runs = []
      if plain:
        runs = stack.enter_context(plain_run.without_pipeline())
      for task, batch in zip(self._model.tasks, self._batches, strict=True):
        self._add(task, batch)
    self._losses = {
      run.layer.path: _loss(run) for run in runs if run.own_metrics
    }

  def _add(self, task: Any, batch: Any) -> None:
    prefix = f'{task.params.name}/' if len(self._model.tasks) > 1 else ''
    with (
      py_utils.TaskCallScope(task),
      py_utils.GlobalStepContext(self._step),
      cluster_factory.SetModelSplit(0) as current,
      tf.device(current.WorkerDeviceInModelSplit(0)),
    ):
      py_utils.ResetStepSeed()
      metrics, _ = task.FPropTower(task.theta, batch)
      for name, variables in _trained(task).items():
        gradients = tf.gradients(
          metrics[name][0], variables, colocate_gradients_with_ops=True
        )
        for variable, gradient in zip(variables, gradients, strict=True):
          if gradient is not None:
            gradient = tf.convert_to_tensor(gradient)
          layer = self._layers.get(variable.name, task.params.name)
          self._gradients[prefix + name, layer, variable.name] = gradient
    for name, (value, _) in metrics.items():
      self._metrics[prefix + name] = tf.convert_to_tensor(value)

  def initialise(self, session: Any, given: Given | None) -> Given:
    session.run([tf.tables_initializer(), tf.local_variables_initializer()])
    variables = tf.global_variables()
    if given is not None:
      # In one call: each one anew would be optimised with the whole graph.
      session.run(
        [v.initializer for v in variables],
        {v.initializer.inputs[1]: given.variables[v.name] for v in variables},
      )
      return given
    session.run(tf.global_variables_initializer())
    for task in self._model.tasks:
      task.input.Initialize(session)
    return Given(
      [
        batch.Transform(lambda t: tf.TensorSpec(t.shape, t.dtype))
        for batch in self._batches
      ],
      session.run(self._leaves),
      session.run({v.name: v for v in variables}),
    )

  def run(self, session: Any, given: Given, step: int) -> Result:
    self._step.load(step, session)
    there = {k: g for k, g in self._gradients.items() if g is not None}
    # A Loss has a bool, which is no tensor.
    losses = {path: loss[:2] for path, loss in self._losses.items()}
    metrics, gradients, losses = session.run(
      (self._metrics, there, losses),
      dict(zip(self._leaves, given.values, strict=True)),
    )
    schedules = [p.schedule for p in self._pipelines]
    return Result(
      metrics={name: float(value) for name, value in metrics.items()},
      gradients={key: gradients.get(key) for key in self._gradients},
      num_cells=max(len(p.cells) for p in self._pipelines),
      num_micro_batches=max(s.num_micro_batches if s else 1 for s in schedules),
      batch_norms=[
        name
        for name, layer in self._named_layers()
        if any(map(_normalises_batches, descendants(layer)))
      ],
      losses={
        path: self._losses[path]._replace(whole=whole, parts=parts)
        for path, (whole, parts) in losses.items()
      },
    )

  def _layers_of_variables(self) -> dict[str, str]:
    """The layer of each variable: of a cell's if it is in one."""
    layers = [
      (name, child)
      for task in self._model.tasks
      for name, children in task.children.items()
      for child in py_utils.Flatten(children)
    ]
    return {
      variable.name: name
      for name, layer in [*layers, *self._named_layers()]
      for variable in layer.vars.Flatten()
    }

  def _named_layers(self) -> Iterator[tuple[str, Any]]:
    """The pipelines' layers, with names that do not depend on the cut."""
    for pipeline in self._pipelines:
      prefix = f'{pipeline.path}.' if len(self._pipelines) > 1 else ''
      for child in pipeline.children.values():
        if isinstance(child, FeatureExtractionLayer):
          for layer in child.leaves:
            yield prefix + layer.path.removeprefix(f'{child.path}.'), layer
        else:
          yield prefix + child.params.name, child


def _loss(run: plain_run.PlainRun) -> Loss:
  gradients = tf.gradients(run.own_metrics.loss[1], tf.trainable_variables())
  return Loss(
    dict(run.own_metrics),
    [dict(metrics) for metrics in run.metrics_of_parts()],
    any(gradient is not None for gradient in gradients),
  )


def _trained(task: Any) -> dict[str, list[Any]]:
  """The variables that learners train, by the name of the loss."""
  found: dict[str, dict[str, Any]] = {}
  for learner in task.learners:
    names = learner.params.loss_name or learner.params.name
    for name in [names] if isinstance(names, str) else names:
      for variable in learner.GetTrainableVariables(task.vars).Flatten():
        found.setdefault(name, {})[variable.name] = variable
  return {name: list(variables.values()) for name, variables in found.items()}


def _normalises_batches(layer: Any) -> bool:
  frozen = 'freeze_bn_stats' in layer.params and layer.params.freeze_bn_stats
  return isinstance(layer, _BATCH_NORMS) and not frozen
