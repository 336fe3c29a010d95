# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batch norm in cells: statistics of a micro-batch, one update a mini-batch."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_layer, bn_layers, layers, py_utils

_DECAY = 0.9
_SIZES = (2, 2, 2, 1)  # Seven examples, four micro-batches.


class Norm(base_layer.BaseLayer):
  """Batch norm, then a matrix product."""

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


def _moving(layer):
  return {v.op.name: v for v in layer.vars.Flatten() if 'moving' in v.op.name}


def _relevant_updates(loss):
  return py_utils.FindRelevantBatchNormUpdates(
    loss, tf.get_collection(py_utils.BATCH_NORM_UPDATES)
  )


@functools.cache
def _updated(num_cells=2, inside=True, **kwargs):
  """The moving averages after a step's updates."""

  def build():
    layer = _params(num_cells, **kwargs).Instantiate()
    x = tf.constant(tiny_pipeline.inputs(sum(_SIZES)))
    if inside:
      loss = layer.ComputeLoss(layer.theta, x, tf.zeros_like(x)).loss[0]
    else:
      loss = tf.reduce_sum(layer.FProp(layer.theta, x))
    gradients = tf.gradients(loss, tf.trainable_variables())
    updates, others = _relevant_updates(loss)
    assert len(updates) == 4
    assert not others
    with tf.control_dependencies([*updates, *gradients]):
      return {name: v.read_value() for name, v in _moving(layer).items()}

  return tiny_pipeline.run(build, num_devices=num_cells)


def test_first_layer_moves_by_the_mean_of_micro_batches_weighted_by_size():
  x = tiny_pipeline.inputs(sum(_SIZES))
  parts = np.split(x, np.cumsum(_SIZES)[:-1])
  shares = np.array(_SIZES) / sum(_SIZES)
  got = _updated()
  for name, start, statistic in (
    ('moving_mean', np.zeros(3), [p.mean(axis=0) for p in parts]),
    ('moving_variance', np.ones(3), [p.var(axis=0) for p in parts]),
  ):
    expected = start - (start - shares @ np.array(statistic)) * (1 - _DECAY)
    np.testing.assert_allclose(
      got[f'net/l0/bn/{name}/var'], expected, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
  'case',
  [
    {'num_cells': 1},
    {'schedule': '1f1b', 'recompute': 'never'},
    {'inside': False, 'recompute': 'except_last'},
  ],
  ids=str,
)
def test_the_same_for_every_cut_schedule_and_policy(case):
  np.testing.assert_equal(_updated(**case), _updated())


def test_one_micro_batch_gives_the_unpipelined_update():
  def build():
    layer = _params().Instantiate()
    x = tf.constant(tiny_pipeline.inputs(sum(_SIZES)))
    updates, _ = _relevant_updates(
      tf.reduce_sum(tiny_pipeline.unpipelined(layer, x))
    )
    with tf.control_dependencies(updates):
      return {name: v.read_value() for name, v in _moving(layer).items()}

  plain = tiny_pipeline.run(build)
  assert len(plain) == 4
  for name, value in _updated(num_micro_batches=1).items():
    np.testing.assert_allclose(value, plain[name], rtol=1e-5, atol=1e-7)


def test_evaluation_uses_moving_averages_and_updates_nothing():
  def build():
    layer = _params().Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    y = layer.FProp(layer.theta, x)
    assert not tf.get_collection(py_utils.BATCH_NORM_UPDATES)
    return y, tiny_pipeline.unpipelined(layer, x)

  y, plain = tiny_pipeline.run(build, num_devices=2, do_eval=True)
  np.testing.assert_allclose(y, plain, rtol=1e-5)


def test_lingvos_learner_applies_each_update_once_a_step():
  steps = 3
  with pt.cluster(2), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    py_utils.GetOrCreateGlobalStepVar()
    task = tiny_pipeline.build_training(_params(schedule='1f1b'), batch=7)
    mean = task.vars.net.d0.l0.bn.moving_mean
    with pt.session(2, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for _ in range(steps):
        sess.run(task.train_op)
      got = sess.run(mean)
  # The first layer's input does not change, so its mean is a geometric series.
  x = tiny_pipeline.inputs(7)
  parts = np.split(x, np.cumsum(_SIZES)[:-1])
  shares = np.array(_SIZES) / 7
  statistic = shares @ np.array([p.mean(axis=0) for p in parts])
  np.testing.assert_allclose(
    got, statistic * (1 - _DECAY**steps), rtol=1e-4, atol=1e-6
  )


def test_inside_a_convolution_layer():
  conv = layers.Conv2DLayer.Params().Set(
    name='conv',
    filter_shape=(3, 3, 2, 2),
    filter_stride=(1, 1),
    bn_decay=_DECAY,
    activation='NONE',
  )
  x = np.random.RandomState(0).randn(4, 5, 5, 2).astype(np.float32)

  def build(num_micro_batches):
    layer = tiny_pipeline.pipeline(
      [conv], 1, num_micro_batches=num_micro_batches or 1
    ).Instantiate()
    paddings = tf.zeros([4, 5])
    image = tf.constant(x)
    if num_micro_batches:
      y, _ = layer.FProp(layer.theta, image, paddings)
    else:
      y, _ = tiny_pipeline.unpipelined(layer, image, paddings)
    updates, others = _relevant_updates(tf.reduce_sum(y))
    assert (len(updates), len(others)) == (2, 0)
    with tf.control_dependencies(updates):
      return {name: v.read_value() for name, v in _moving(layer).items()}

  piped = tiny_pipeline.run(lambda: build(1))
  halves = tiny_pipeline.run(lambda: build(2))
  plain = tiny_pipeline.run(lambda: build(0))
  for name, value in plain.items():
    np.testing.assert_allclose(piped[name], value, rtol=1e-5, atol=1e-7)
    if 'mean' in name:  # A mean of means is the mean; not so for variances.
      np.testing.assert_allclose(halves[name], value, rtol=1e-4, atol=1e-6)
