# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of other metrics than the loss, which learners may name."""

import itertools

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import layers, learner, optimizer, py_utils

_VARIANTS = [
  (1, 'gpipe', 'always'),
  (1, '1f1b', 'never'),
  *itertools.product([2], ['gpipe', '1f1b'], ['always', 'never']),
]
_WEIGHTS = np.array([2, 1, 0, 0, 1, 3, 1, 1], np.float32)


class WithAuxLoss(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    context = py_utils.AuxLossContext.Current()
    context.AddLoss(tf.reduce_mean(tf.square(tf.matmul(x, theta.w))))
    return super().FProp(theta, x)


def _net(subs, num_cells=2, schedule='1f1b', recompute='always', **kwargs):
  return tiny_pipeline.pipeline(
    subs,
    num_cells,
    loss_tpl=tiny_pipeline.TwoLosses.Params().Set(name='loss'),
    schedule=schedule,
    recompute=recompute,
    **kwargs,
  )


def _compute(net, *picks, num_devices=2):
  """Gradients of what each of `picks` makes of the metrics: piped, plain."""

  def build():
    layer = net.Instantiate()
    x, targets = tf.constant(tiny_pipeline.inputs()), tf.constant(_WEIGHTS)
    piped = layer.ComputeLoss(layer.theta, x, targets)
    with py_utils.AuxLossContext() as aux:
      outputs = tiny_pipeline.unpipelined(layer, x)
    plain = layer.loss.FProp(layer.theta.loss, outputs, targets)
    if aux.aux_losses:
      plain['aux_loss'] = (tf.add_n(aux.aux_losses), 1.0)
    variables = tf.trainable_variables()
    values = [{n: value for n, (value, _) in m.items()} for m in (piped, plain)]
    return [
      [tf.gradients(pick(v), variables) for v in values] for pick in picks
    ]

  return tiny_pipeline.run(build, num_devices=num_devices)


def _assert_equal(got, expected, tolerance):
  assert [g is None for g in got] == [g is None for g in expected]
  for a, b in zip(got, expected, strict=True):
    if b is not None:
      np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance / 10)


def test_every_metric_has_the_gradient_of_the_plain_layers():
  first = None
  for variant in _VARIANTS:
    found = _compute(
      _net(tiny_pipeline.linear('a', 'b'), *variant),
      lambda m: m['loss'],
      lambda m: m['size'],
      lambda m: m['loss'] + 0.5 * m['size'],
      lambda m: m['loss'] * tf.stop_gradient(m['size']) + m['large'],
      num_devices=variant[0],
    )
    first = first or found
    for (piped, plain), (piped_first, _) in zip(found, first, strict=True):
      _assert_equal(piped, plain, 2e-5)
      _assert_equal(piped, piped_first, 0)


@pytest.mark.parametrize('num_cells', [1, 2])
def test_so_have_the_auxiliary_losses(num_cells):
  subs = [WithAuxLoss.Params().Set(name=name) for name in 'ab']
  for piped, plain in _compute(
    _net(subs, num_cells),
    lambda m: m['aux_loss'] + m['size'],
    lambda m: m['aux_loss'],
  ):
    _assert_equal(piped, plain, 2e-5)


def test_a_learner_for_each_loss_trains_what_the_plain_layers_would():
  def learner_of(name, regex):
    return learner.Learner.Params().Set(
      name=name,
      loss_name=name,
      learning_rate=0.1,
      optimizer=optimizer.SGD.Params(),
      bprop_variable_filter=regex,
    )

  def build():
    p = tiny_pipeline.task_params(_net(tiny_pipeline.linear('a', 'b')))
    p.train.learner = [learner_of('loss', '/a/'), learner_of('size', '/b/')]
    task = p.Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    batch = py_utils.NestedMap(x=x, y=tf.constant(_WEIGHTS))
    task.FPropDefaultTheta(batch)
    outputs = tiny_pipeline.unpipelined(task.net, x)
    plain = task.net.loss.FProp(task.net.theta.loss, outputs, batch.y)
    a, b = (tiny_pipeline.subs_of(task.net)[name].vars.w for name in 'ab')
    expected = [
      a - 0.1 * tf.gradients(plain['loss'][0], a)[0],
      b - 0.1 * tf.gradients(plain['size'][0], b)[0],
    ]
    with tf.control_dependencies(expected):
      task.BProp()
    with tf.control_dependencies([task.train_op]):
      return expected, [a.read_value(), b.read_value()]

  expected, got = tiny_pipeline.run(build, num_devices=2)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_what_cannot_run_twice_is_refused_with_the_name_of_the_metric():
  dropout = layers.DropoutLayer.Params().Set(name='drop', keep_prob=0.5)
  subs = [*tiny_pipeline.linear('a'), dropout]
  with pytest.raises(ValueError, match=r"gradients of metric 'size'.*drop"):
    _compute(_net(subs, recompute='never'), lambda m: m['size'])
