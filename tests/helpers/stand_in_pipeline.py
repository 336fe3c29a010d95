# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small models for tests of the trainer, with a pipeline and without."""

import declared
import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import (
  base_layer,
  base_model,
  base_model_params,
  cluster_factory,
  layers,
  optimizer,
  py_utils,
  schedule,
)

from lingvo_gpipe.inputs import digits
from lingvo_gpipe.models import image_classifier, losses


class Flatten(base_layer.BaseLayer):
  """[batch, 8, 8, 1] to [batch, 64]."""

  def FProp(self, theta, x):
    del theta
    return tf.reshape(x, [tf.shape(x)[0], 64])


class Log(declared.Layer):
  """The logarithm, at one step of a negative number; 1 at all others."""

  PARAMS = {'step': -1}

  def FProp(self, theta, x):
    del theta
    now = tf.equal(py_utils.GetGlobalStep(), self.params.step)
    return x + tf.math.log(tf.where(now, -tf.ones([]), tf.ones([])))


class Bounded(declared.Layer):
  """Asserts that no row of pixels adds up to so much, and returns them."""

  PARAMS = {'bound': -60.0}  # 64 black pixels are -64.

  def FProp(self, theta, x):
    del theta
    largest = tf.reduce_max(tf.reduce_sum(x, -1))
    fine = tf.debugging.Assert(
      largest < self.params.bound, ['too bright', largest]
    )
    with tf.control_dependencies([fine]):
      return tf.identity(x)


def _projection(name, input_dim, output_dim, activation='RELU'):
  return layers.ProjectionLayer.Params().Set(
    name=name,
    input_dim=input_dim,
    output_dim=output_dim,
    batch_norm=False,
    has_bias=True,
    activation=activation,
  )


class _Digits(base_model_params.SingleTaskModelParams):
  def Train(self):
    return digits.DigitsInput.TrainParams().Set(batch_size=32)

  def Test(self):
    return digits.DigitsInput.TestParams().Set(batch_size=100)


class _Pipelined(_Digits):
  """Four layers in two cells."""

  NAN_AT_STEP = -1

  def Task(self):
    p = image_classifier.ImageClassifier.Params().Set(name='small')
    p.pipeline.Set(
      sub=[
        Flatten.Params().Set(name='flatten'),
        _projection('first', 64, 32),
        Log.Params().Set(name='log', step=type(self).NAN_AT_STEP),
        _projection('last', 32, 10, 'NONE'),
      ],
      balance=[1.0, 3.0, 1.0, 3.0],
      num_micro_batches=4,
      schedule='1f1b',
    )
    p.loss.Set(num_classes=10)
    # Weights that a run without a checkpoint begins with again.
    p.random_seed = 20181116
    p.train.learning_rate = 0.02
    p.train.lr_schedule = schedule.Constant.Params()
    p.train.optimizer = optimizer.Adam.Params()
    p.train.max_steps = 60
    p.train.save_interval_steps = 3
    p.train.save_max_to_keep = 3
    return p


@model_registry.RegisterSingleTaskModel
class Small(_Pipelined):
  """Trains."""


@model_registry.RegisterSingleTaskModel
class SmallNan(_Pipelined):
  """Its loss is NaN at step 3."""

  NAN_AT_STEP = 3


@model_registry.RegisterSingleTaskModel
class SmallBounded(_Pipelined):
  """An assertion fails in its first cell."""

  def Task(self):
    p = super().Task()
    p.pipeline.sub.insert(1, Bounded.Params().Set(name='bounded'))
    p.pipeline.balance = [1.0, 1.0, 3.0, 1.0, 3.0]
    return p


class TwoDeviceTask(base_model.BaseTask):
  """Classifies digits without a pipeline: layer k is on device k."""

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
    first = _projection('layer_0', 64, p.hidden)
    last = _projection('layer_1', p.hidden, 10, 'NONE')
    for k, layer in enumerate((first, last)):
      with tf.device(self.cluster.WorkerDeviceInModelSplit(k)):
        self.CreateChild(layer.name, layer)
    loss = losses.ClassificationLoss.Params().Set(num_classes=10)
    self.CreateChild('classification', loss)

  def ComputePredictions(self, theta, input_batch):
    x = tf.reshape(input_batch.image, [-1, 64])
    for k, name in enumerate(('layer_0', 'layer_1')):
      with tf.device(cluster_factory.Current().WorkerDeviceInModelSplit(k)):
        x = self.children[name].FProp(theta[name], x)
    fine = tf.not_equal(py_utils.GetGlobalStep(), self.params.fail_at_step)
    with tf.control_dependencies([tf.debugging.Assert(fine, ['on purpose'])]):
      return tf.identity(x)

  def ComputeLoss(self, theta, predictions, input_batch):
    metrics = self.classification.FProp(
      theta.classification, predictions, input_batch
    )
    total = tf.reduce_sum(input_batch.weight)
    return {**metrics, 'num_samples_in_batch': (total, tf.constant(1.0))}, {}


@model_registry.RegisterSingleTaskModel
class TwoDevices(_Digits):
  """Trains."""

  def Task(self):
    p = TwoDeviceTask.Params().Set(name='two_devices')
    p.train.learning_rate = 0.02
    p.train.optimizer = optimizer.Adam.Params()
    p.train.max_steps = 60
    return p


@model_registry.RegisterSingleTaskModel
class TwoDevicesFailing(TwoDevices):
  """Fails at its third step."""

  def Task(self):
    return super().Task().Set(fail_at_step=2)
