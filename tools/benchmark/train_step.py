# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A training step of a benchmark's case: graph, session, first step.

Plain gradient descent, each weight updated on its own device, so that nothing
but the pipeline is measured.
"""

import itertools
from typing import Any

import lingvo.compat as tf
from lingvo.core import builder_layers, cluster_factory, py_utils

from lingvo_gpipe import cluster, cpu_devices, pipelining_layer
from lingvo_gpipe.training import one_core
from tools.benchmark import case_model, lingvo_engine
from tools.benchmark.cases import Case
from tools.benchmark.variants import Variant

_LEARNING_RATE = 0.01
_SEED = 1
_NAME = 'net'


class TrainStep:
  """Runs training steps of one variant of one case, in graph mode."""

  def __init__(
    self,
    case: Case,
    variant: Variant,
    splits: list[int],
    workers: str | None = None,
  ):
    """Builds the graph and initialises the weights; `run` does a step.

    Args:
      case: What to train.
      variant: How. 'torch' is not run by TensorFlow.
      splits: The first layer of each cell but the first.
      workers: The target of sessions whose K workers have a CPU device each;
        by default this process has K.
    """
    self._case = case
    self._variant = variant
    self._splits = splits
    self._workers = workers
    self._graph = tf.Graph()
    if self._threads_in_ops == 1:
      cpu_devices.keep_ops_on_one_thread()
    with self._cluster(), self._graph.as_default():
      tf.random.set_seed(_SEED)
      step = py_utils.GetOrCreateGlobalStepVar()
      model = case_model.make(case)
      if workers is None:
        inputs, targets, start = model.data(case.batch)
      else:
        devices = [self._device(0), self._device(variant.num_cells - 1)]
        inputs, targets, start = model.generated_data(case.batch, step, devices)
      self._loss = self._compute_loss(model, inputs, targets)
      self._train = _descend(self._loss)
      self._session = tf.compat.v1.Session(workers or '', config=self._config())
      self._session.run([tf.global_variables_initializer(), start])

  def run(self) -> float:
    """Runs a step; returns the loss before it."""
    loss, _ = self._session.run([self._loss, self._train])
    return float(loss)

  @property
  def num_ops(self) -> int:
    """How many ops the graph has, those in functions not counted."""
    return len(self._graph.get_operations())

  def _cluster(self) -> Any:
    p = cluster_factory.ForTestingWorker(
      mode='sync', job='trainer_client'
    ).params.Copy()
    p.cls = cluster.PipelineCluster
    num_cells = self._variant.num_cells
    in_one = self._workers is None
    for job in (p.worker, p.ps, p.controller):
      job.name = '/job:localhost' if in_one else '/job:worker'
      job.replicas = 1 if in_one else num_cells
    cluster.use_cpu_devices(p, num_cells if in_one else 1, num_cells)
    return p.Instantiate()

  def _device(self, cell: int) -> str:
    return cluster_factory.Current().WorkerDeviceInModelSplit(cell)

  def _compute_loss(self, model: Any, inputs: Any, targets: Any) -> Any:
    engine = self._variant.method.engine
    if engine in ('ours', 'naive'):
      layer = pipeline_params(
        model, self._variant, self._splits, _NAME
      ).Instantiate()
      return layer.ComputeLoss(layer.theta, inputs, targets)['loss'][0]
    if engine == 'lingvo':
      params = lingvo_engine.pipelining_params(
        self._case, self._splits, self._variant.num_micro_batches, _NAME
      )
    else:
      params = builder_layers.SequentialLayer.Params().Set(
        name=_NAME, sub=model.layers
      )
    loss = model.loss.Instantiate()
    with tf.device(self._device(0)):
      outputs = params.Instantiate().FPropDefaultTheta(inputs)
    with tf.device(self._device(self._variant.num_cells - 1)):
      return loss.FPropDefaultTheta(outputs, targets)['loss'][0]

  @property
  def _threads_in_ops(self) -> int:
    """On how many threads an op may run."""
    if self._variant.method.engine == 'plain-all_cores':
      return one_core.num_usable_cores()
    return 1

  def _config(self) -> Any:
    config = tf.compat.v1.ConfigProto(
      intra_op_parallelism_threads=self._threads_in_ops
    )
    if self._workers is None:
      config.device_count['CPU'] = self._variant.num_cells
    if self._variant.method.engine == 'plain':
      # Or two ops that do not wait for each other would run on two cores.
      config.inter_op_parallelism_threads = 1
    return config


def pipeline_params(
  model: Any, variant: Variant, splits: list[int], name: str
) -> Any:
  """Params of our pipeline for a case's model, with the loss in it.

  Args:
    model: The model.
    variant: How it is run.
    splits: The first layer of each cell but the first.
    name: The layer's name.
  """
  ends = [0, *splits, len(model.layers)]
  return pipelining_layer.PipeliningLayer.Params().Set(
    name=name,
    num_micro_batches=variant.num_micro_batches,
    schedule=variant.method.schedule,
    recompute=variant.method.recompute,
    loss_tpl=model.loss,
    cell_tpl=[
      pipelining_layer.FeatureExtractionLayer.Params().Set(
        name=f'cell{k}', sub=model.layers[start:end]
      )
      for k, (start, end) in enumerate(itertools.pairwise(ends))
    ],
  )


def _descend(loss: Any) -> Any:
  """One step of gradient descent, each weight on its device."""
  variables = tf.trainable_variables()
  gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
  updates = [
    *tf.get_collection(tf.GraphKeys.UPDATE_OPS),
    *tf.get_collection(py_utils.BATCH_NORM_UPDATES),
  ]
  for variable, gradient in zip(variables, gradients, strict=True):
    with tf.device(variable.device):
      updates.append(tf.assign_sub(variable, _LEARNING_RATE * gradient))
  return tf.group(*updates)
