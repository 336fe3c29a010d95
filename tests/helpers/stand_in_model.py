# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small model for tests: two layers, each on a device of the cluster."""

import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import (
  base_model,
  base_model_params,
  cluster_factory,
  layers,
  optimizer,
  py_utils,
)

from lingvo_gpipe.inputs import digits


class TwoDeviceTask(base_model.BaseTask):
  """Classifies digits: layer k is on device k of the split."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('hidden', 32, 'Units of the first layer.')
    p.Define('num_micro_batches', 4, 'Read by nobody: for flags and reports.')
    p.Define('schedule', 'gpipe', 'Likewise.')
    p.Define('recompute', 'always', 'Likewise.')
    p.Define('device_memory', 0, 'Likewise.')
    p.Define('fail_at_step', -1, 'Raise InvalidArgument at this step.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    sizes = [64, p.hidden, 10]
    for k in range(2):
      tpl = layers.ProjectionLayer.Params().Set(
        name=f'layer_{k}',
        input_dim=sizes[k],
        output_dim=sizes[k + 1],
        batch_norm=False,
        has_bias=True,
        activation='RELU' if k == 0 else 'NONE',
      )
      with tf.device(self.cluster.WorkerDeviceInModelSplit(k)):
        self.CreateChild(f'layer_{k}', tpl)

  def ComputePredictions(self, theta, input_batch):
    x = tf.reshape(input_batch.image, [-1, 64])
    for k in range(2):
      with tf.device(cluster_factory.Current().WorkerDeviceInModelSplit(k)):
        x = self.children[f'layer_{k}'].FProp(theta[f'layer_{k}'], x)
    return x

  def ComputeLoss(self, theta, predictions, input_batch):
    del theta
    p = self.params
    weight = input_batch.weight
    total = tf.reduce_sum(weight)
    xent = tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=input_batch.label, logits=predictions
    )
    right = tf.cast(
      tf.equal(tf.argmax(predictions, -1, tf.int32), input_batch.label),
      tf.float32,
    )
    loss = tf.reduce_sum(xent * weight) / total
    if p.fail_at_step >= 0:
      fine = tf.not_equal(py_utils.GetGlobalStep(), p.fail_at_step)
      with tf.control_dependencies([tf.debugging.Assert(fine, ['on purpose'])]):
        loss = tf.identity(loss)
    return {
      'loss': (loss, total),
      'accuracy': (tf.reduce_sum(right * weight) / total, total),
      'num_samples_in_batch': (total, tf.constant(1.0)),
    }, {}


class _TwoDevices(base_model_params.SingleTaskModelParams):
  def Train(self):
    return digits.DigitsInput.TrainParams().Set(batch_size=32)

  def Test(self):
    return digits.DigitsInput.TestParams().Set(batch_size=100)

  def Task(self):
    p = TwoDeviceTask.Params().Set(name='two_devices')
    p.train.learning_rate = 0.02
    p.train.optimizer = optimizer.Adam.Params()
    p.train.max_steps = 60
    return p


@model_registry.RegisterSingleTaskModel
class TwoDevices(_TwoDevices):
  """Trains."""


@model_registry.RegisterSingleTaskModel
class TwoDevicesFailing(_TwoDevices):
  """Fails at its third step."""

  def Task(self):
    p = super().Task()
    p.fail_at_step = 2
    return p
