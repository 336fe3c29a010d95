# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses, metrics and auxiliary losses, and the gradients of each."""

import example_model
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_models import AuxLoss, WeightedMean, layers_of, weighted_batch
from lingvo.core import layers, learner, optimizer, py_utils
from tiny_pipeline import assert_close

from lingvo_gpipe.pipeline import plain_run

_VARIANTS = [(1, '1f1b', 'never'), (2, '1f1b', 'always'), (2, 'gpipe', 'never')]


def _two_losses(subs, cut=2, schedule='1f1b', recompute='always'):
  return tiny_pipeline.pipeline(
    subs,
    cut,
    loss_tpl=tiny_pipeline.TwoLosses.Params().Set(name='loss'),
    schedule=schedule,
    recompute=recompute,
  )


def _batch():
  weights = tf.constant([2, 1, 0, 0, 1, 3, 1, 1], tf.float32)
  return example_model.Batch(tf.constant(tiny_pipeline.inputs()), weights)


def _gradients(net, *picks):
  def build():
    layer, batch = net.Instantiate(), _batch()
    variables = tf.trainable_variables()
    gradients = []
    for compute in (example_model.inside, example_model.plain):
      metrics = compute(layer, batch)
      values = {name: value for name, (value, _) in metrics.items()}
      gradients.append([tf.gradients(p(values), variables) for p in picks])
    return gradients

  return tiny_pipeline.run(build, num_devices=len(net.cell_tpl))


def test_every_metric_has_the_gradient_of_the_plain_layers():
  first = None
  for variant in _VARIANTS:
    got, plain = _gradients(
      _two_losses(tiny_pipeline.linear('a', 'b'), *variant),
      lambda m: m['loss'],
      lambda m: m['size'],
      lambda m: m['loss'] + 0.5 * m['size'],
      lambda m: m['loss'] * tf.stop_gradient(m['size']) + m['large'],
    )
    first = first or got
    assert_close(got, plain, 2e-5)
    assert_close(got, first, 0)


@pytest.mark.parametrize('num_cells', [1, 2])
def test_so_have_the_auxiliary_losses(num_cells):
  got, plain = _gradients(
    _two_losses(layers_of(AuxLoss), num_cells),
    lambda m: m['aux_loss'] + m['size'],
    lambda m: m['aux_loss'],
  )
  assert_close(got, plain, 2e-5)


def test_a_learner_for_each_loss_trains_what_the_plain_layers_would():
  def build():
    p = tiny_pipeline.task_params(_two_losses(tiny_pipeline.linear('a', 'b')))
    p.train.learner = [
      learner.Learner.Params().Set(
        name=name,
        loss_name=name,
        learning_rate=0.1,
        optimizer=optimizer.SGD.Params(),
        bprop_variable_filter=regex,
      )
      for name, regex in (('loss', '/a/'), ('size', '/b/'))
    ]
    task, batch = p.Instantiate(), _batch()
    weights = [sub.vars.w for sub in tiny_pipeline.subs_of(task.net).values()]
    before = [w.read_value() for w in weights]
    task.FPropDefaultTheta(py_utils.NestedMap(x=batch.inputs, y=batch.targets))
    with tf.control_dependencies(before):
      task.BProp()
    with tf.control_dependencies([task.train_op]):
      return before, [w.read_value() for w in weights]

  before, got = tiny_pipeline.run(build, num_devices=2)
  with plain_run.without_pipeline():
    _, plain = tiny_pipeline.run(build)
  assert_close(got, plain)
  assert np.abs(np.subtract(got, before)).min() > 1e-4


def test_what_cannot_run_twice_is_refused_with_the_name_of_the_metric():
  dropout = layers.DropoutLayer.Params().Set(name='drop', keep_prob=0.5)
  net = _two_losses([*tiny_pipeline.linear('a'), dropout], recompute='never')
  with pytest.raises(ValueError, match=r"gradients of metric 'size'.*drop"):
    _gradients(net, lambda m: m['size'])


def test_gradient_if_only_the_auxiliary_losses_are_used():
  def build():
    layer = tiny_pipeline.pipeline(layers_of(AuxLoss)).Instantiate()

    def gradients():
      with py_utils.AuxLossContext() as context:
        layer.FProp(layer.theta, tf.constant(tiny_pipeline.inputs(7)))
      first, second = context.aux_losses
      return tf.gradients(3 * first + 5 * second, layer.vars.Flatten())

    return tiny_pipeline.beside_plain(gradients)

  assert_close(*tiny_pipeline.run(build))


class _VectorAuxLoss(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    py_utils.AuxLossContext.Current().AddLoss(tf.reduce_sum(x, axis=1))
    return x


def _aux_loss_inside(cls):
  def build():
    layer = tiny_pipeline.with_loss(layers_of(cls)).Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    with py_utils.AuxLossContext() as context:
      metrics = layer.ComputeLoss(layer.theta, x, tf.zeros_like(x))
    assert not context.aux_losses
    return metrics.aux_loss[0]

  return tiny_pipeline.run(build)


def test_loss_inside_hands_nothing_to_a_context_around():
  assert _aux_loss_inside(AuxLoss) > 0


def test_one_that_is_no_scalar_is_refused():
  with pytest.raises(ValueError, match=r"'d0' adds an auxiliary loss of shape"):
    _aux_loss_inside(_VectorAuxLoss)


@pytest.mark.parametrize(
  ('weight', 'scale'), [(5e4, 1.0), (8.0, 2.0**12), (5e4, 2.0**12)]
)
def test_float16_overflows_no_earlier_than_the_plain_layers(weight, scale):
  model = example_model.Model(
    tiny_pipeline.linear('a', 'b'),
    lambda: weighted_batch(
      weight * np.array([1, 1, 1, 2, 1, 1, 0.5, 1]), 0.25, tf.float16
    ),
    loss=WeightedMean.Params().Set(name='loss', scale=scale),
    params={'fprop_dtype': tf.float16},
  )
  for cut, schedule, recompute in _VARIANTS:
    got, plain = model.steps(
      cut,
      *(example_model.inside, example_model.plain),
      schedule=schedule,
      recompute=recompute,
    )
    assert np.isfinite(plain.metrics['loss'][0])
    pt.assert_close(got, plain, 5e-3)


def test_the_loss_of_each_micro_batch_is_that_of_its_part():
  def build():
    net = tiny_pipeline.with_loss(
      tiny_pipeline.linear('a', 'b'), num_micro_batches=3
    )
    net = net.Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    with plain_run.without_pipeline() as runs:
      net.ComputeLoss(net.theta, x, tf.zeros_like(x))
    [run] = runs
    y = run.outputs()
    return y, run.own_metrics.loss, [m.loss for m in run.metrics_of_parts()]

  y, whole, parts = tiny_pipeline.run(build, num_devices=2)
  squares = np.sum(np.square(y), axis=1) / 2
  assert whole == (pytest.approx(np.mean(squares)), 8)
  assert [weight for _, weight in parts] == [3, 3, 2]
  for (value, _), part in zip(parts, np.split(squares, [3, 6]), strict=True):
    assert value == pytest.approx(np.mean(part))
