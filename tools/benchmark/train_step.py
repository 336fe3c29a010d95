# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A training step of a case: graph, session, steps."""

import gc
import itertools
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import builder_layers, cluster_factory, py_utils

from lingvo_gpipe import cluster, cpu_devices, pipelining_layer
from lingvo_gpipe.training import cores
from tools.benchmark import case_model, lingvo_engine
from tools.benchmark.cases import Case
from tools.benchmark.step_worker import StepWorker
from tools.common import process_memory

_SEED = 1
_NAME = 'net'
_SGD_RATE = 0.01
_OPTIMIZERS = {
  'rmsprop': lambda: tf.tf1.train.RMSPropOptimizer(
    1e-4, momentum=0.9, epsilon=1.0
  ),
  'adam': lambda: tf.tf1.train.AdamOptimizer(1e-4),
}


class TrainStep:
  """Runs training steps of a case, in graph mode."""

  def __init__(
    self,
    case: Case,
    splits: Sequence[int],
    workers: str | None = None,
    *,
    data_is_kept: bool = True,
    updates_only: bool = False,
  ):
    """Builds the graph and initialises the weights; `run` does a step.

    Args:
      case: What to train, and how; the engine is not 'torch'.
      splits: The first layer of each cell but the first.
      workers: The target of sessions whose workers have a CPU device each; by
        default this process has K.
      data_is_kept: Whether each step has the same data; they take no time then.
      updates_only: Whether a step only reads all weights, scales gradients that
        are there already, and applies them: what a step does besides its tasks.
    """
    self._case = case
    self._splits = splits
    self._workers = workers
    if case.engine != 'plain-all_cores':
      cpu_devices.keep_ops_on_one_thread()
    with self._cluster(), tf.Graph().as_default():
      tf.random.set_seed(_SEED)
      step = py_utils.GetOrCreateGlobalStepVar()
      model = case_model.make(case)
      if updates_only:
        self._pipeline(model)
        self._loss, self._train = tf.constant(0.0), self._update()
      else:
        ends = [self._device(0), self._device(-1)]
        inputs, targets = model.data(case.batch, step, ends, kept=data_is_kept)
        self._loss = self._compute_loss(model, inputs, targets)
        self._train = self._descend()
      self.num_parameters = sum(
        variable.shape.num_elements() for variable in tf.trainable_variables()
      )
      self._session = self._new_session()
      self._session.run(tf.global_variables_initializer())
      if workers is not None:
        # Its graph would keep the initial values.
        self._session.close()
        self._session = self._new_session()

  def run(self) -> float:
    """Runs a step; returns the loss before it."""
    loss, _ = self._session.run([self._loss, self._train])
    return float(loss)

  def _cluster(self) -> Any:
    p = cluster_factory.ForTestingWorker(
      mode='sync', job='trainer_client'
    ).params.Copy()
    p.cls = cluster.PipelineCluster
    in_one = self._workers is None
    num_devices = self._case.num_cells if in_one else self._case.num_devices
    for job in (p.worker, p.ps, p.controller):
      job.name = '/job:localhost' if in_one else '/job:worker'
      job.replicas = 1 if in_one else num_devices
    cluster.use_cpu_devices(p, num_devices if in_one else 1, num_devices)
    return p.Instantiate()

  def _device(self, cell: int) -> Any:
    place = self._case.cell_devices[cell]
    return cluster_factory.Current().WorkerDeviceInModelSplit(place)

  def _pipeline(self, model: case_model.CaseModel) -> Any:
    """Our pipeline of the case's model, with the loss in it."""
    case = self._case
    ends = [0, *self._splits, len(model.layers)]
    params = pipelining_layer.PipeliningLayer.Params().Set(
      name=_NAME,
      num_micro_batches=case.num_micro_batches,
      schedule=case.schedule,
      recompute=case.kept or case.recompute,
      loss_tpl=model.loss,
      # Or it would compute gradients of the data.
      bprop_variable_exclusion=f'^{case_model.DATA}',
      cell_tpl=[
        pipelining_layer.FeatureExtractionLayer.Params().Set(
          name=f'cell{k}', sub=model.layers[start:end]
        )
        for k, (start, end) in enumerate(itertools.pairwise(ends))
      ],
    )
    return params.Instantiate()

  def _compute_loss(
    self, model: case_model.CaseModel, inputs: Any, targets: Any
  ) -> Any:
    if self._case.engine in ('ours', 'naive'):
      layer = self._pipeline(model)
      return layer.ComputeLoss(layer.theta, inputs, targets)['loss'][0]
    if self._case.engine == 'lingvo':
      params = lingvo_engine.pipelining_params(self._case, self._splits, _NAME)
    else:
      params = builder_layers.SequentialLayer.Params().Set(
        name=_NAME, sub=model.layers
      )
    loss = model.loss.Instantiate()
    with tf.device(self._device(0)):
      outputs = params.Instantiate().FPropDefaultTheta(inputs)
    with tf.device(self._device(-1)):
      return loss.FPropDefaultTheta(outputs, targets)['loss'][0]

  def _descend(self) -> Any:
    """An op that trains all weights, and what layers update besides."""
    variables = tf.trainable_variables()
    gradients = tf.gradients(
      self._loss, variables, colocate_gradients_with_ops=True
    )
    return tf.group(
      self._apply(gradients, variables),
      *tf.get_collection(tf.GraphKeys.UPDATE_OPS),
      *tf.get_collection(py_utils.BATCH_NORM_UPDATES),
    )

  def _update(self) -> Any:
    """An op that applies gradients that are there already."""
    variables = tf.trainable_variables()
    scale = tf.Variable(1.0, trainable=False).read_value()
    gradients, reads = [], []
    for variable in variables:
      with tf.device(variable.device):
        kept = case_model.variable(tf.zeros(variable.shape))
        gradients.append(scale * kept)
        reads.append(variable.read_value().op)
    return tf.group(self._apply(gradients, variables), *reads)

  def _apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> Any:
    pairs = list(zip(gradients, variables, strict=True))
    if self._case.optimizer != 'sgd':
      return _OPTIMIZERS[self._case.optimizer]().apply_gradients(pairs)
    updates = []
    # Each weight is updated on its own device.
    for gradient, variable in pairs:
      with tf.device(variable.device):
        updates.append(tf.assign_sub(variable, _SGD_RATE * gradient))
    return tf.group(*updates)

  def _new_session(self) -> Any:
    case = self._case
    config = session_config(is_rewritten=case.optimizer == 'sgd')
    config.intra_op_parallelism_threads = (
      cores.num_usable() if case.engine == 'plain-all_cores' else 1
    )
    if self._workers is None:
      config.device_count['CPU'] = case.num_cells
    if case.engine == 'plain':
      # Or two ops that do not wait for each other would run on two cores.
      config.inter_op_parallelism_threads = 1
    return tf.compat.v1.Session(self._workers or '', config=config)


def session_config(*, is_rewritten: bool) -> Any:
  """A session's configuration; `is_rewritten`: TensorFlow may rewrite graphs.

  It would keep folded constants, such as an optimizer's slots of zeros shared
  by variables of a shape, and take longer than the step.
  """
  config = tf.compat.v1.ConfigProto()
  if not is_rewritten:
    options = config.graph_options
    options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
    options.rewrite_options.disable_meta_optimizer = True
  return config


def worker(case: Case, splits: Sequence[int], *clock: Any) -> StepWorker:
  """Builds and times a `TrainStep`."""
  return StepWorker(lambda: TrainStep(case, splits), *clock)


def kept_bytes(case: Case, splits: Sequence[int], number: int) -> float:
  """By how much the process grows with each graph of the last half of many."""
  first = number // 2
  for i in range(number):
    if i == first:
      gc.collect()
      before = process_memory.anonymous_bytes()
    TrainStep(case, splits).run()
  gc.collect()
  return (process_memory.anonymous_bytes() - before) / (number - first)
