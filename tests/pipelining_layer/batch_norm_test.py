# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batch norm in cells: statistics of a micro-batch, one update a mini-batch."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_model import inside, outside, plain
from example_models import linear_batch
from lingvo.core import base_layer, bn_layers, py_utils

_DECAY = 0.9
_SIZES = (2, 2, 2, 1)  # Seven examples, four micro-batches.


class Norm(base_layer.BaseLayer):
  def __init__(self, params):
    super().__init__(params)
    self.CreateChild(
      'bn',
      bn_layers.BatchNormLayer.Params().Set(
        dim=tiny_pipeline.WIDTH, decay=_DECAY
      ),
    )
    self.CreateChild('linear', tiny_pipeline.Linear.Params())

  def FProp(self, theta, x):
    return self.linear.FProp(theta.linear, self.bn.FProp(theta.bn, x))


def _params(num_cells=2, **kwargs):
  subs = [Norm.Params().Set(name=f'l{i}') for i in range(2)]
  return tiny_pipeline.with_loss(subs, num_cells, **kwargs)


@functools.cache
def _updated(num_cells=2, compute=inside, **kwargs):
  def build():
    layer = _params(num_cells, **kwargs).Instantiate()
    loss = compute(layer, linear_batch())['loss'][0]
    gradients = tf.gradients(loss, tf.trainable_variables())
    updates, others = py_utils.FindRelevantBatchNormUpdates(
      loss, tf.get_collection(py_utils.BATCH_NORM_UPDATES)
    )
    assert len(updates) == 4
    assert not others
    with tf.control_dependencies([*updates, *gradients]):
      return {
        v.op.name: v.read_value()
        for v in layer.vars.Flatten()
        if 'moving' in v.op.name
      }

  return tiny_pipeline.run(build, num_devices=num_cells)


def _of_first_layer(statistic):
  """The mean of the micro-batches' statistics, weighted by their sizes."""
  x = tiny_pipeline.inputs(sum(_SIZES))
  parts = np.split(x, np.cumsum(_SIZES)[:-1])
  return np.average([statistic(p, axis=0) for p in parts], 0, _SIZES)


def test_first_layer_moves_by_the_mean_of_micro_batches_weighted_by_size():
  got = _updated()
  for name, start, statistic in (
    ('moving_mean', np.zeros(3), np.mean),
    ('moving_variance', np.ones(3), np.var),
  ):
    expected = start - (start - _of_first_layer(statistic)) * (1 - _DECAY)
    np.testing.assert_allclose(
      got[f'net/l0/bn/{name}/var'], expected, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
  'case',
  [
    {'num_cells': 1},
    {'schedule': '1f1b', 'recompute': 'never'},
    {'compute': outside, 'recompute': 'except_last'},
  ],
)
def test_the_same_for_every_cut_schedule_and_policy(case):
  np.testing.assert_equal(_updated(**case), _updated())


def test_one_micro_batch_gives_the_update_of_the_plain_layers():
  expected = _updated(compute=plain)
  for name, value in _updated(num_micro_batches=1).items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)


def test_evaluation_uses_moving_averages_and_updates_nothing():
  def build():
    layer = _params().Instantiate()
    losses = [
      compute(layer, linear_batch())['loss'][0] for compute in (inside, plain)
    ]
    assert not tf.get_collection(py_utils.BATCH_NORM_UPDATES)
    return losses

  got, expected = tiny_pipeline.run(build, num_devices=2, do_eval=True)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_lingvos_learner_applies_each_update_once_a_step():
  steps = 3
  with pt.graph(2) as graph:
    task = tiny_pipeline.build_training(_params(schedule='1f1b'), batch=7)
    mean = task.vars.net.d0.l0.bn.moving_mean
    with pt.session(2, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for _ in range(steps):
        sess.run(task.train_op)
      got = sess.run(mean)
  # The first layer's input does not change, so its mean is a geometric series.
  expected = _of_first_layer(np.mean) * (1 - _DECAY**steps)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
