# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a model, through its plain layers or its pipelines.

Each call of `run` builds the model again, in a graph of its own. The first one
takes a mini-batch from the model's input and initialises the weights; the
others are given both.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import bn_layers, cluster_factory, py_utils

from lingvo_gpipe import cluster, cpu_devices
from lingvo_gpipe.pipeline import plain_run
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  descendants,
)
from lingvo_gpipe.training import pipeline_report, user_error

_BATCH_NORMS = (bn_layers.BatchNormLayer, bn_layers.BatchNormLayerNoPadding)


@dataclasses.dataclass(frozen=True)
class Given:
  """What every way of running the model is given.

  Attributes:
    batches: For each task the input batch, a NestedMap of tensor specs.
    values: For each task the values of these, in order.
    variables: The value of each variable, by name.
  """

  batches: list[Any]
  values: list[list[np.ndarray]]
  variables: dict[str, np.ndarray]


# {name: (value, weight)}.
Metrics = dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Loss:
  """What a loss layer returned where plain layers ran before it.

  Attributes:
    name: The pipeline's path.
    whole: For the mini-batch.
    parts: For the part of each micro-batch; empty if not known.
    weight_is_trained: Whether the loss's weight depends on trained variables.
  """

  name: str
  whole: Metrics
  parts: list[Metrics]
  weight_is_trained: bool


@dataclasses.dataclass(frozen=True)
class Result:
  """What one way gave.

  Attributes:
    gradients: Of each loss by each trained variable, by their names; None
      where there is none.
    layers: The layer of each variable, by the variable's name; in the order
      of the layers.
    num_micro_batches: M, likewise; 1 without a pipeline.
    losses: Of each run of plain layers with the loss inside.
    constant_weights: Each `constant_loss_weight` of a pipeline that has one.
  """

  metrics: dict[str, float]
  gradients: dict[tuple[str, str], np.ndarray | None]
  layers: dict[str, str]
  num_cells: int
  num_micro_batches: int
  batch_norms: list[str]
  losses: list[Loss]
  constant_weights: list[float]


def run(
  params: Any,
  num_devices: int,
  given: Given | None = None,
  *,
  plain: bool,
  steps: Sequence[int] = (0,),
) -> tuple[list[Result], Given]:
  """Builds the model in a graph of its own, and runs it on one mini-batch.

  Args:
    num_devices: CPU devices of this process, for the cells.
    given: The mini-batch and the weights; None to take the input's next
      mini-batch and initial weights.
    plain: Whether layers run in sequence, without a pipeline.
    steps: Global steps at which to run, each with the same batch and weights.

  Raises:
    UserError: The model has no pipeline.
  """
  cluster_params = cluster.PipelineCluster.Params()
  cluster_params.Set(mode='sync', job='trainer_client')
  cluster.use_cpu_devices(cluster_params, num_devices)
  with (
    tf.Graph().as_default() as graph,
    cluster_params.Instantiate() as current,
    tf.device(current.GetPlacer()),
  ):
    model = _Model(params, given, plain=plain)
    with tf.Session(
      graph=graph, config=cpu_devices.session_config(num_devices)
    ) as session:
      return model.run(session, given, steps)


class _Model:
  """A model in the current graph."""

  def __init__(self, params: Any, given: Given | None, *, plain: bool):
    self._step = py_utils.GetOrCreateGlobalStepVar()
    self._model = params.Copy().Instantiate()
    self._pipelines = list(pipeline_report.pipelines(self._model))
    if not self._pipelines:
      raise user_error.UserError(
        f'{params.name}: the model has no pipeline, so there is nothing to '
        'check.'
      )
    self._batches = []
    self._losses: list[Loss] = []
    self._metrics: dict[str, Any] = {}
    self._gradients: dict[tuple[str, str], tf.Tensor | None] = {}
    for number, task in enumerate(self._model.tasks):
      if given is None:
        batch = task.GetInputBatch()[0].Transform(tf.convert_to_tensor)
      else:
        batch = given.batches[number].Transform(
          lambda spec: tf.placeholder(spec.dtype, spec.shape)
        )
      self._batches.append(batch)
      with contextlib.ExitStack() as stack:
        runs = []
        if plain:
          runs = stack.enter_context(plain_run.without_pipeline())
        self._add(task, batch)
      self._losses += [_loss(run) for run in runs if run.own_metrics]

  def _add(self, task: Any, batch: Any) -> None:
    """Adds a task's metrics, and the gradients of its losses."""
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
          self._gradients[prefix + name, variable.name] = gradient
    for name, (value, _) in metrics.items():
      self._metrics[prefix + name] = tf.convert_to_tensor(value)

  def run(
    self, session: Any, given: Given | None, steps: Sequence[int]
  ) -> tuple[list[Result], Given]:
    session.run([tf.tables_initializer(), tf.local_variables_initializer()])
    if given is None:
      session.run(tf.global_variables_initializer())
      for task in self._model.tasks:
        task.input.Initialize(session)
      given = Given(
        [
          batch.Transform(lambda t: tf.TensorSpec(t.shape, t.dtype))
          for batch in self._batches
        ],
        session.run([batch.Flatten() for batch in self._batches]),
        session.run({v.name: v for v in tf.global_variables()}),
      )
    else:
      # In one call: each one anew would be optimised with the whole graph.
      variables = tf.global_variables()
      session.run(
        [v.initializer for v in variables],
        {v.initializer.inputs[1]: given.variables[v.name] for v in variables},
      )
    feed = {
      tensor: value
      for batch, values in zip(self._batches, given.values, strict=True)
      for tensor, value in zip(batch.Flatten(), values, strict=True)
    }
    results = []
    for step in steps:
      self._step.load(step, session)
      results.append(self._result(session, feed))
    return results, given

  def _result(self, session: Any, feed: dict[Any, np.ndarray]) -> Result:
    there = {k: g for k, g in self._gradients.items() if g is not None}
    losses = [(loss.whole, loss.parts) for loss in self._losses]
    metrics, gradients, losses = session.run(
      (self._metrics, there, losses), feed
    )
    pipelines = self._pipelines
    return Result(
      metrics={name: float(value) for name, value in metrics.items()},
      gradients={name: gradients.get(name) for name in self._gradients},
      layers=self._layers(),
      num_cells=max(len(p.cells) for p in pipelines),
      num_micro_batches=max(
        p.schedule.num_micro_batches if p.schedule else 1 for p in pipelines
      ),
      batch_norms=[
        name
        for pipeline in pipelines
        for name, layer in self._leaves(pipeline)
        if any(map(_normalises_batches, descendants(layer)))
      ],
      losses=[
        dataclasses.replace(loss, whole=whole, parts=parts)
        for loss, (whole, parts) in zip(self._losses, losses, strict=True)
      ],
      constant_weights=[
        p.constant_loss_weight
        for p in pipelines
        if p.constant_loss_weight is not None
      ],
    )

  def _layers(self) -> dict[str, str]:
    """The layer of each variable: of a cell's if it is in one."""
    layers = {
      variable.name: name
      for pipeline in self._pipelines
      for name, layer in self._leaves(pipeline)
      for variable in layer.vars.Flatten()
    }
    for task in self._model.tasks:
      for name, child in task.children.items():
        for variable in py_utils.Flatten(
          [c.vars for c in py_utils.Flatten(child)]
        ):
          layers.setdefault(variable.name, name)
    return layers

  def _leaves(self, pipeline: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a pipeline, with names that do not depend on the cut."""
    prefix = f'{pipeline.path}.' if len(self._pipelines) > 1 else ''
    for child in pipeline.children.values():
      if isinstance(child, FeatureExtractionLayer):
        for layer in child.leaves:
          yield prefix + layer.path.removeprefix(f'{child.path}.'), layer
      else:
        yield prefix + child.params.name, child


def _loss(run: plain_run.PlainRun) -> Loss:
  """The same as tensors."""
  gradients = tf.gradients(run.own_metrics.loss[1], tf.trainable_variables())
  return Loss(
    run.layer.path,
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
  if not isinstance(layer, _BATCH_NORMS):
    return False
  return not (
    'freeze_bn_stats' in layer.params and layer.params.freeze_bn_stats
  )
