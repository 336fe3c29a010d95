# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the training step of a case, on worker processes.

The optimizer is the family's: RMSProp with momentum for AmoebaNet, Adam for the
Transformer, both with two slots, so 12 bytes a parameter beside gradients.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils
from tensorflow.core.protobuf import rewriter_config_pb2

from lingvo_gpipe import pipeline_plan, pipelining_layer
from lingvo_gpipe.models import (
  amoebanet,
  image_classifier,
  language_model,
  transformer,
)
from lingvo_gpipe.partitioner import partition
from lingvo_gpipe.pipeline import flat_layers
from tools.benchmark import (
  process_memory,
  training_case,
  worker_servers,
)
from tools.benchmark.training_case import TrainingCase

_LEARNING_RATE = 1e-4
_SETTLE_SECONDS = 0.3


class _WorkersPipeline(pipelining_layer.PipeliningLayer):
  """A pipeline whose cell k is on worker k."""

  def _CellDevices(self):
    return [
      worker_servers.worker_device(k) for k in range(len(self.params.cell_tpl))
    ]


def pipeline_params(case: TrainingCase) -> Any:
  """Params of the case's pipeline, loss and shapes included; no cut yet."""
  shape = f'{case.micro_batch_size},{case.example_size}'
  if case.family == 'amoebanet':
    task = image_classifier.ImageClassifier.Params()
    network = amoebanet.AmoebaNetParams().Set(
      num_normal_cells=case.length,
      dim=case.dim,
      num_classes=training_case.NUM_CLASSES,
    )
    sub = amoebanet.AmoebaNetLayers(network)
    task.loss.num_classes = training_case.NUM_CLASSES
    shapes = f'float32[{shape},{case.example_size},3]'
  else:
    task = language_model.LanguageModel.Params()
    network = transformer.TransformerParams().Set(
      vocab_size=training_case.VOCAB_SIZE,
      num_layers=case.length,
      model_dim=case.dim,
      hidden_dim=4 * case.dim,
      num_heads=case.dim // training_case.HEAD_DIM,
      packed=False,
      dropout=0.1,
    )
    sub = transformer.TransformerLayers(network)
    shapes = f'int32[{shape}]'
  task.name = 'model'
  task.pipeline.Set(
    sub=sub,
    num_partitions=case.num_workers,
    num_micro_batches=case.num_micro_batches,
    schedule=case.schedule,
    recompute=case.recompute,
    input_shapes=shapes,
  )
  return task.cls.PipelineParams(task).Set(name='net')


def plan(case: TrainingCase, splits: Sequence[int] | None = None) -> Any:
  """The case's Partition by the memory model, for splits if they are given."""
  found = pipeline_plan.plan(pipeline_params(case), case.num_workers).partition
  if splits is None:
    return found
  return partition(found.layers, found.spec, splits)


def measured_plan(case: TrainingCase, core: int) -> Any:
  """The case's Partition with the time of each layer, measured on one core.

  Args:
    case: The case. This process must not have run TensorFlow.
    core: Which of the cores that this process may use.
  """
  worker_servers.pin(core)
  tf.disable_eager_execution()
  params = pipeline_params(case).Set(balance='measured')
  return pipeline_plan.plan(params, case.num_workers).partition


def _cut_params(case: TrainingCase, splits: Sequence[int]) -> Any:
  """Params of the case's pipeline, cut so; costs nothing to make."""
  params = pipeline_params(case)
  layers = flat_layers.flatten(params.sub, params)
  ends = [0, *splits, len(layers)]
  result = _WorkersPipeline.Params().Set(
    cell_tpl=[
      flat_layers.cell_params(f'cell_{k}', layers[start:end])
      for k, (start, end) in enumerate(itertools.pairwise(ends))
    ]
  )
  for name in ('name', 'num_micro_batches', 'schedule', 'recompute'):
    result.Set(**{name: params.Get(name)})
  return result.Set(loss_tpl=params.loss_tpl, side_inputs=params.side_inputs)


def run(
  case: TrainingCase,
  splits: Sequence[int],
  announce: Callable[[list[int]], None],
  *,
  timed_steps: int = 0,
  pinned: bool = False,
  warm_up: bool = False,
) -> dict[str, Any]:
  """Runs training steps on workers of its own.

  Args:
    case: What to run. This process must not have run TensorFlow.
    splits: The first layer of each cell but the first.
    announce: Called with the workers' process ids before they use memory.
    timed_steps: Steps after the first, of whose times the median counts; with
      0 the first step counts.
    pinned: Whether each worker is kept to a core of its own.
    warm_up: Whether a step of a tiny model with the same graph comes first, so
      that code and the room that the graph takes are part of the idle level.

  Returns:
    `peaks` and `idle`, bytes of each worker; `parameters`; `build_seconds`,
    `step_seconds`, `loss`.
  """
  tf.disable_eager_execution()
  started = time.monotonic()
  with worker_servers.worker_servers(case.num_workers, pinned=pinned) as (
    pids,
    target,
  ):
    if warm_up:
      _train(_tiny(case), splits, target, 0)
      tf.compat.v1.Session.reset(target)
    time.sleep(_SETTLE_SECONDS)
    idle = [process_memory.resident_bytes(pid) for pid in pids]
    if warm_up:
      for pid in pids:
        process_memory.reset_peak(pid)
    announce(pids)
    trained = _train(case, splits, target, timed_steps)
    peaks = [process_memory.peak_bytes(pid) for pid in pids]
  return {
    'peaks': peaks,
    'idle': idle,
    'build_seconds': trained.pop('built') - started,
    **trained,
  }


def _train(
  case: TrainingCase, splits: Sequence[int], target: str, timed_steps: int
) -> dict[str, Any]:
  """Builds a case's graph and runs steps; see `run`."""
  cluster = cluster_factory.ForTestingWorker(mode='sync', job='trainer_client')
  with cluster, tf.Graph().as_default():
    loss, train = _build(case, splits, data_is_kept=timed_steps > 0)
    parameters = sum(
      variable.shape.num_elements() for variable in tf.trainable_variables()
    )
    # A session of its own: its graph keeps the initial values.
    with tf.compat.v1.Session(target, config=session_config()) as session:
      session.run(tf.global_variables_initializer())
    built = time.monotonic()
    seconds = []
    with tf.compat.v1.Session(target, config=session_config()) as session:
      for _ in range(1 + timed_steps):
        begun = time.monotonic()
        value, _ = session.run([loss, train])
        seconds.append(time.monotonic() - begun)
  return {
    'built': built,
    'parameters': parameters,
    'step_seconds': statistics.median(seconds[1:] or seconds),
    'loss': float(value),
  }


def update_seconds(
  case: TrainingCase, splits: Sequence[int], timed_steps: int
) -> float:
  """The median time of a step that only updates the weights.

  It reads all of them, scales gradients that are there already, and applies
  them, all workers at once: what a training step does besides its tasks.

  Args:
    case: What to run. This process must not have run TensorFlow.
    splits: The first layer of each cell but the first.
    timed_steps: How many steps, after one that does not count.
  """
  tf.disable_eager_execution()
  cluster = cluster_factory.ForTestingWorker(mode='sync', job='trainer_client')
  with (
    worker_servers.worker_servers(case.num_workers, pinned=True) as (_, target),
    cluster,
    tf.Graph().as_default(),
  ):
    py_utils.GetOrCreateGlobalStepVar()
    _cut_params(case, splits).Instantiate()
    variables = tf.trainable_variables()
    update = _update(case, variables)
    with tf.compat.v1.Session(target, config=session_config()) as session:
      session.run(tf.global_variables_initializer())
      seconds = []
      for _ in range(1 + timed_steps):
        begun = time.monotonic()
        session.run(update)
        seconds.append(time.monotonic() - begun)
  return statistics.median(seconds[1:])


def _update(case: TrainingCase, variables: Sequence[Any]) -> Any:
  """The op of a step that only updates the weights."""
  scale = tf.Variable(1.0, trainable=False).read_value()
  gradients, reads = [], []
  for variable in variables:
    with tf.device(variable.device):
      gradients.append(scale * _kept(tf.zeros(variable.shape)))
      reads.append(variable.read_value().op)
  optimizer = _optimizer(case)
  train = optimizer.apply_gradients(zip(gradients, variables, strict=True))
  return tf.group(train, *reads)


def _tiny(case: TrainingCase) -> TrainingCase:
  """A case with the same graph, and next to no data in it."""
  return dataclasses.replace(
    case,
    dim=training_case.HEAD_DIM,
    example_size=32 if case.family == 'amoebanet' else 8,
    batch=case.num_micro_batches,
  )


def _build(
  case: TrainingCase, splits: Sequence[int], *, data_is_kept: bool = False
) -> Any:
  """The loss and the op of a training step, in the current graph.

  Args:
    case: What to run.
    splits: The first layer of each cell but the first.
    data_is_kept: Whether each step has the same data, which then take no time.
  """
  step = py_utils.GetOrCreateGlobalStepVar()
  layer = _cut_params(case, splits).Instantiate()
  first, last = layer.cell_devices[0], layer.cell_devices[-1]
  # What does not depend on the step might be computed once and kept.
  changing = tf.zeros_like(step) if data_is_kept else step
  seeds = [tf.stack([changing, seed]) for seed in (1, 2)]
  side = case.example_size
  with tf.device(first):
    if case.family == 'amoebanet':
      inputs = tf.random.stateless_uniform(
        [case.batch, side, side, 3], seeds[0]
      )
    else:
      inputs = _integers([case.batch, side], seeds[0], training_case.VOCAB_SIZE)
    inputs = _kept(inputs) if data_is_kept else inputs
  with tf.device(last):
    targets = _targets(case, seeds[1])
    targets = targets.Transform(_kept) if data_is_kept else targets
  loss = layer.ComputeLoss(layer.theta, inputs, targets)['loss'][0]
  variables = tf.trainable_variables()
  gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
  optimizer = _optimizer(case)
  updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
  train = optimizer.apply_gradients(zip(gradients, variables, strict=True))
  return loss, tf.group(train, *updates)


def _kept(data: Any) -> Any:
  """A variable that starts as `data`."""
  return tf.Variable(data, trainable=False, name='data').read_value()


def _optimizer(case: TrainingCase) -> Any:
  if case.family == 'amoebanet':
    return tf.compat.v1.train.RMSPropOptimizer(
      _LEARNING_RATE, momentum=0.9, epsilon=1.0
    )
  return tf.compat.v1.train.AdamOptimizer(_LEARNING_RATE)


def _integers(shape: list[int], seed: Any, limit: int) -> Any:
  return tf.random.stateless_uniform(shape, seed, 0, limit, tf.int32)


def _targets(case: TrainingCase, seed: Any) -> Any:
  if case.family == 'amoebanet':
    label = _integers([case.batch], seed, training_case.NUM_CLASSES)
    return py_utils.NestedMap(label=label, weight=tf.ones([case.batch]))
  shape = [case.batch, case.example_size]
  return py_utils.NestedMap(
    labels=_integers(shape, seed, training_case.VOCAB_SIZE),
    weights=tf.ones(shape),
    bytes=tf.ones(shape),
  )


def session_config() -> Any:
  """A session without rewrites of the graph.

  They would keep folded constants, such as slots of zeros shared by variables
  of a shape, and take longer than the step.
  """
  config = tf.compat.v1.ConfigProto()
  options = config.graph_options
  options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
  options.rewrite_options.CopyFrom(
    rewriter_config_pb2.RewriterConfig(disable_meta_optimizer=True)
  )
  return config
