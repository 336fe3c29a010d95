# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline of matrix products, and ways to run it, for tests.

Smaller than the model of pipeline_testing; any layer can be put into it.
"""

import declared
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from lingvo.core import (
  base_input_generator,
  base_layer,
  base_model,
  learner,
  optimizer,
  py_utils,
)

from lingvo_gpipe import pipelining_layer
from lingvo_gpipe.pipeline import plain_run

WIDTH = 3
run = pt.run


class Linear(declared.Layer):
  """x w + x, of [batch, WIDTH]."""

  WEIGHTS = {'w': [WIDTH, WIDTH]}

  def FProp(self, theta, x):
    return x + tf.matmul(x, theta.w)


class MeanSquare(base_layer.BaseLayer):
  """A loss without weights: half the mean square error."""

  def FProp(self, theta, outputs, targets):
    examples = tf.cast(tf.shape(outputs)[0], tf.float32)
    error = tf.reduce_sum(tf.square(outputs - targets)) / 2
    return {'loss': (error / examples, examples)}


class TwoLosses(Linear):
  """A loss without weights and a weighted one of a head of its own."""

  def FProp(self, theta, outputs, targets):
    examples = tf.cast(tf.shape(outputs)[0], tf.float32)
    head = super().FProp(theta, outputs)
    weight = tf.reduce_sum(targets)
    size = tf.reduce_sum(tf.square(head), axis=-1)
    return {
      'loss': (tf.reduce_sum(tf.tanh(outputs)) / examples, examples),
      'size': (tf.reduce_sum(size * targets) / weight, weight),
      'large': (tf.reduce_mean(tf.cast(size > 1, tf.float32)), examples),
    }


def linear(*names):
  return [Linear.Params().Set(name=name) for name in names]


def pipeline(subs, cut=2, num_micro_batches=4, **kwargs):
  """Params of layers cut into cells; the loss is outside by default."""
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='net',
    cell_tpl=pt.cells(subs, cut),
    num_micro_batches=num_micro_batches,
    **kwargs,
  )


def two_layers(**kwargs):
  return pipeline(linear('l0', 'l1'), **kwargs)


def with_loss(subs, *args, **kwargs):
  loss = MeanSquare.Params().Set(name='loss')
  return pipeline(subs, *args, loss_tpl=loss, **kwargs)


def refused(*messages):
  """Expects a ValueError whose message matches all of these, in order."""
  return pytest.raises(ValueError, match='(?s)' + '.*'.join(messages))


def subs_of(layer):
  """All layers in the cells, by name."""
  return {sub.params.name: sub for cell in layer.cells for sub in cell.sequence}


def inputs(batch=8, seed=1, width=WIDTH):
  return np.random.RandomState(seed).randn(batch, width).astype(np.float32)


def unpipelined(layer, *args):
  """What the layers give in sequence, on the whole mini-batch."""
  for cell in layer.cells:
    args = cell.FProp(layer.theta[cell.params.name], *args)
    args = args if isinstance(args, tuple) else (args,)
  return args[0] if len(args) == 1 else args


def beside_plain(compute):
  """What a function makes of a pipeline, and of its layers without one."""
  with plain_run.without_pipeline():
    plain = compute()
  return compute(), plain


def assert_close(got, expected, tolerance=1e-5):
  """Asserts that the numbers of two nests agree; None only with None."""
  for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
    assert (a is None) == (b is None)
    if a is not None:
      np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance / 10)


def outputs(params, *args, **kwargs):
  """What a pipeline makes of some arrays; `kwargs` are of `run`."""
  return run(
    lambda: params.Instantiate().FPropDefaultTheta(*map(tf.constant, args)),
    **kwargs,
  )


class Task(base_model.BaseTask):
  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('net', None, 'Params of the pipeline.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateChild('net', self.params.net)

  def ComputePredictions(self, theta, input_batch):
    return py_utils.NestedMap()

  def ComputeLoss(self, theta, predictions, input_batch):
    return self.net.ComputeLoss(theta.net, input_batch.x, input_batch.y), {}


class _Input(base_input_generator.BaseInputGenerator):
  """Only there because Lingvo asks a task's input for its filters."""


def task_params(net, **learning):
  """A task's Params; `learning` are Params of its learner."""
  p = Task.Params().Set(name='task', net=net, input=_Input.Params())
  p.train.learner = learner.Learner.Params().Set(
    name='loss', learning_rate=0.1, optimizer=optimizer.Adam.Params()
  )
  p.train.learner.Set(**learning)
  return p


def build_task(params, x=None, y=None):
  task = params.Instantiate()
  x = tf.convert_to_tensor(inputs() if x is None else x)
  y = tf.zeros_like(x) if y is None else y
  task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=y))
  task.BProp()
  return task


def build_training(net, batch=8, **learning):
  return build_task(task_params(net, **learning), inputs(batch))
