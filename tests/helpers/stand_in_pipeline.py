# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small pipelined model for tests of the trainer: four layers, two cells."""

import declared
import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import (
  base_layer,
  base_model_params,
  layers,
  optimizer,
  py_utils,
  schedule,
)

from lingvo_gpipe.inputs import digits
from lingvo_gpipe.models import image_classifier


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
  NAN_AT_STEP = -1

  def Train(self):
    return digits.DigitsInput.TrainParams().Set(batch_size=32)

  def Test(self):
    return digits.DigitsInput.TestParams().Set(batch_size=100)

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
class Small(_Digits):
  """Trains."""


@model_registry.RegisterSingleTaskModel
class SmallNan(_Digits):
  """Its loss is NaN at step 3."""

  NAN_AT_STEP = 3


@model_registry.RegisterSingleTaskModel
class SmallBounded(_Digits):
  """An assertion fails in its first cell."""

  def Task(self):
    p = super().Task()
    p.pipeline.sub.insert(1, Bounded.Params().Set(name='bounded'))
    p.pipeline.balance = [1.0, 1.0, 3.0, 1.0, 3.0]
    return p
