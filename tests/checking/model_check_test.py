# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The check finds what a pipeline changes, and says why."""

import declared
import lingvo.compat as tf
import pytest
import tiny_pipeline as tiny
from lingvo.core import (
  base_input_generator,
  base_layer,
  base_model,
  bn_layers,
  layers,
  py_utils,
)

from lingvo_gpipe import check, sequential_layer
from lingvo_gpipe.training import user_error

_BATCH = 8
_TOLERANCE = 1e-3


class _Input(base_input_generator.BaseInputGenerator):
  def GetPreprocessedInputBatch(self):
    return py_utils.NestedMap(
      x=tf.constant(tiny.inputs(_BATCH)),
      y=py_utils.NestedMap(
        target=tf.constant(tiny.inputs(_BATCH, seed=2)),
        weight=tf.constant([0.5, 1.0, 2.0, 1.0, 3.0, 0.0, 1.0, 0.25]),
      ),
    )


class _Loss(declared.Layer):
  PARAMS = {'loss': 'mean_examples', 'others': []}

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'scale', py_utils.WeightParams([], py_utils.WeightInit.Constant(2.0))
    )

  def FProp(self, theta, outputs, targets):
    error = tf.reduce_sum(tf.square(outputs - targets.target), axis=1)
    examples = tf.cast(tf.shape(error)[0], tf.float32)
    mean = tf.reduce_mean(error)
    weight = tf.reduce_sum(targets.weight)
    weighted = tf.math.divide_no_nan(
      tf.reduce_sum(error * targets.weight), weight
    )
    metrics = {
      'mean_examples': (mean, examples),
      'weighted_mean_weight': (weighted, weight),
      'sum_one': (tf.reduce_sum(error), 1.0),
      'mean_one': (mean, 1.0),
      'trained_weight': (
        tf.reduce_sum(error) / (theta.scale * examples),
        theta.scale * examples,
      ),
    }
    p = self.params
    return {'loss': metrics[p.loss], **{n: metrics[n] for n in p.others}}


class _MinusMean(base_layer.BaseLayer):
  def FProp(self, theta, x):
    return x - 0.5 * tf.reduce_mean(x, axis=0, keepdims=True)


class _Noise(base_layer.BaseLayer):
  def FProp(self, theta, x):
    seeds = py_utils.GenerateStepSeedPair(self.params)
    return x + tf.random.stateless_normal(tf.shape(x), seeds)


def _model(extra=(), num_micro_batches=2, **loss):
  net = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=[*tiny.linear('first'), *extra, *tiny.linear('last')],
    balance='params',
    num_micro_batches=num_micro_batches,
    schedule='1f1b',
    loss_tpl=_Loss.Params().Set(name='loss', **loss),
  )
  task = tiny.task_params(net).Set(input=None, random_seed=7)
  p = base_model.SingleTaskModel.Params(task)
  return p.Set(input=_Input.Params(), name='model')


def _check(*args, num_devices=1, **kwargs):
  return check.check_model(_model(*args, **kwargs), num_devices)


# -- Losses.


def test_metrics_whose_weight_is_their_divisor_are_the_same():
  report = _check(
    others=['weighted_mean_weight'], num_micro_batches=3, num_devices=2
  )
  assert report.same
  ways = [(way.num_micro_batches, way.num_cells) for way in report.ways]
  assert ways == [(1, 1), (1, 2), (3, 1), (3, 2)]
  assert 'gradient of first' in report.ways[0].differences
  assert 'Why' not in report.to_text()


def test_metrics_that_do_not_fit_are_found_and_named():
  report = _check(loss='sum_one', others=['mean_one'], num_micro_batches=3)
  assert not report.same
  whole, cut = report.ways
  assert whole.num_micro_batches == 1
  assert whole.largest < _TOLERANCE
  for name in ('gradient of first', 'metric loss', 'metric mean_one'):
    assert cut.differences[name] > _TOLERANCE
  total, mean = report.faults
  assert "metric 'loss': its value is a sum" in total
  assert "'mean_one': its weight is 1 for every micro-batch" in mean
  assert total in report.to_text()


def test_a_weight_that_is_trained_is_named():
  report = _check(loss='trained_weight')
  assert not report.same
  assert 'the weight of the loss depends on trained weights' in report.faults[0]


# -- Layers.


_NORM = bn_layers.BatchNormLayer.Params().Set(name='norm', dim=tiny.WIDTH)


def test_batch_norm_is_named_and_is_no_fault():
  report = _check([_NORM])
  assert report.same
  assert report.differs
  assert report.batch_norms == ['norm']
  assert report.ways[-1].differences['gradient of first'] > 0.01
  assert report.fixed_statistics.largest < _TOLERANCE
  assert 'It is all that differs' in report.to_text()


@pytest.mark.parametrize(
  ('beside', 'text'),
  [
    ([_NORM], 'It is not the only reason'),
    ([], 'depends on the other examples'),
  ],
)
def test_a_layer_that_mixes_examples_differs_beside_batch_norm(beside, text):
  report = _check([*beside, _MinusMean.Params().Set(name='mixing')])
  assert not report.same
  assert not report.faults
  assert text in report.to_text()


def test_dropout_is_turned_off_and_other_random_ops_are_named():
  dropout = layers.DeterministicDropoutLayer.Params()
  dropout.Set(name='dropout', keep_prob=0.5)
  report = _check([dropout])
  assert report.same
  assert report.set_aside == {'keep_prob': 1}
  report = _check([_Noise.Params().Set(name='noise')])
  assert not report.same
  assert 'random ops' in report.to_text()


def test_what_no_learner_trains_is_not_compared():
  params = _model()
  params.task.train.learner.bprop_variable_exclusion = 'last'
  report = check.check_model(params, 1)
  assert report.same
  found = [*report.ways[0].differences]
  assert found == ['metric loss', 'gradient of first', 'gradient of loss']


def test_a_model_without_a_pipeline_is_refused():
  params = _model()
  params.task.net = tiny.linear('net')[0]
  with pytest.raises(user_error.UserError, match='has no pipeline'):
    check.check_model(params)
