# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A training step of a benchmark's case: graph, session, first step.

Plain gradient descent, each weight updated on its own device, so that nothing
but the pipeline is measured. The input comes from tf.data: TensorFlow would
compute ahead with a constant.
"""

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, gpipe, py_utils

from lingvo_gpipe import pipelining_layer
from lingvo_gpipe.benchmark import residual_mlp
from lingvo_gpipe.benchmark.cases import Case, Variant

_ENGINES = {'lingvo': gpipe, 'ours': pipelining_layer}
_LEARNING_RATE = 0.01
_SEED = 1


class TrainStep:
  """Runs training steps of one variant of one case, in graph mode."""

  def __init__(self, case: Case, variant: Variant):
    """Builds the graph and initialises the weights; `run` does a step."""
    self._case = case
    self._variant = variant
    cluster = cluster_factory.ForTestingWorker(
      mode='sync',
      job='trainer_client',
      cpus=case.num_cells,
      split_size=case.num_cells,
    )
    self._graph = tf.Graph()
    with cluster, self._graph.as_default():
      tf.random.set_seed(_SEED)
      py_utils.GetOrCreateGlobalStepVar()
      layer = self._params().Instantiate()
      x, start_input = self._input()
      self._loss = self._compute_loss(layer, x)
      self._train = _descend(self._loss)
      self._session = tf.compat.v1.Session(config=self._config())
      self._session.run([tf.global_variables_initializer(), start_input])

  def run(self) -> float:
    """Runs a step; returns the loss before it."""
    loss, _ = self._session.run([self._loss, self._train])
    return float(loss)

  @property
  def num_ops(self) -> int:
    """How many ops the graph has, those in functions not counted."""
    return len(self._graph.get_operations())

  def _params(self):
    case, variant = self._case, self._variant
    engine = _ENGINES[variant.engine]
    per_cell = case.num_layers // case.num_cells
    layers = [
      residual_mlp.ResidualLayer.Params().Set(
        name=f'l{i}', dim=case.dim, number=i
      )
      for i in range(case.num_layers)
    ]
    p = engine.PipeliningLayer.Params().Set(
      name='net',
      num_micro_batches=case.num_micro_batches,
      cell_tpl=[
        engine.FeatureExtractionLayer.Params().Set(
          name=f'cell{k}', sub=layers[k * per_cell : (k + 1) * per_cell]
        )
        for k in range(case.num_cells)
      ],
    )
    if variant.engine == 'ours':
      p.Set(schedule=variant.schedule, recompute=variant.recompute)
    if variant.loss_inside:
      p.loss_tpl = residual_mlp.MeanSquare.Params().Set(name='loss')
    return p

  def _input(self):
    case = self._case
    data = np.random.RandomState(_SEED).randn(case.batch, case.dim)
    dataset = tf.data.Dataset.from_tensors(data.astype(np.float32)).repeat()
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
    return iterator.get_next(), iterator.initializer

  def _compute_loss(self, layer, x):
    if self._variant.loss_inside:
      targets = tf.zeros([self._case.batch])
      return layer.ComputeLoss(layer.theta, x, targets)['loss'][0]
    y = layer.FPropDefaultTheta(x)
    last = self._case.num_cells - 1
    with tf.device(cluster_factory.Current().WorkerDeviceInModelSplit(last)):
      return tf.reduce_mean(tf.square(y))

  def _config(self):
    return tf.compat.v1.ConfigProto(
      device_count={'CPU': self._case.num_cells},
      intra_op_parallelism_threads=1,
    )


def _descend(loss):
  """One step of gradient descent, each weight on its device."""
  variables = tf.trainable_variables()
  gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
  updates = []
  for variable, gradient in zip(variables, gradients, strict=True):
    with tf.device(variable.device):
      updates.append(tf.assign_sub(variable, _LEARNING_RATE * gradient))
  return tf.group(*updates)
