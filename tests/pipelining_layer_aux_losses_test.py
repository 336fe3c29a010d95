# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Auxiliary losses that layers in cells add to a py_utils.AuxLossContext."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import py_utils

_SIZES = (2, 2, 2, 1)  # Seven examples, four micro-batches.


class WithAuxLoss(tiny_pipeline.Linear):
  """Adds the mean, over its examples, of |x w|^2."""

  def FProp(self, theta, x):
    context = py_utils.AuxLossContext.Current()
    if context:
      hidden = tf.reduce_sum(tf.square(tf.matmul(x, theta.w)), axis=-1)
      context.AddLoss(tf.reduce_mean(hidden))
    return super().FProp(theta, x)


class VectorAuxLoss(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    py_utils.AuxLossContext.Current().AddLoss(tf.reduce_sum(x, axis=1))
    return x


class NeedsContext(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    assert py_utils.AuxLossContext.Current() is None
    return super().FProp(theta, x)


def _subs(cls=WithAuxLoss):
  return [cls.Params().Set(name=f'l{i}') for i in range(2)]


def _variables(layer):
  return [sub.vars.w for sub in tiny_pipeline.subs_of(layer).values()]


def _by_hand(w0, w1, x, weights=None):
  """The outputs and both auxiliary losses: means over the mini-batch."""
  weights = tf.ones([7]) if weights is None else weights

  def aux(x, w):
    each = tf.reduce_sum(tf.square(tf.matmul(x, w)), axis=-1)
    return tf.reduce_sum(each * weights) / tf.reduce_sum(weights)

  hidden = x + tf.matmul(x, w0)
  outputs = hidden + tf.matmul(hidden, w1)
  return outputs, [aux(x, w0), aux(hidden, w1)]


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_loss_outside_hands_on_the_mean_weighted_by_size(recompute):
  def build():
    layer = tiny_pipeline.pipeline(_subs(), recompute=recompute).Instantiate()
    x = tf.constant(tiny_pipeline.inputs(sum(_SIZES)))
    w = _variables(layer)
    with py_utils.AuxLossContext() as context:
      y = layer.FProp(layer.theta, x)
    piped = tf.reduce_sum(y) + 3 * context.aux_losses[0]
    piped += 5 * context.aux_losses[1]
    plain_y, plain_aux = _by_hand(*w, x)
    plain = tf.reduce_sum(plain_y) + 3 * plain_aux[0] + 5 * plain_aux[1]
    return (
      (context.aux_losses, plain_aux),
      (tf.gradients(piped, w), tf.gradients(plain, w)),
    )

  for got, expected in tiny_pipeline.run(build, num_devices=2):
    assert len(got) == 2
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gradient_if_only_the_auxiliary_losses_are_used():
  def build():
    layer = tiny_pipeline.pipeline(_subs()).Instantiate()
    x = tf.constant(tiny_pipeline.inputs(sum(_SIZES)))
    w = _variables(layer)
    with py_utils.AuxLossContext() as context:
      layer.FProp(layer.theta, x)
    _, plain_aux = _by_hand(*w, x)
    return (
      tf.gradients(tf.add_n(context.aux_losses), w),
      tf.gradients(tf.add_n(plain_aux), w),
    )

  np.testing.assert_allclose(*tiny_pipeline.run(build), rtol=1e-5)


def test_without_a_context_layers_find_none():
  def build():
    layer = tiny_pipeline.pipeline(_subs(NeedsContext)).Instantiate()
    return layer.FProp(layer.theta, tf.constant(tiny_pipeline.inputs()))

  assert tiny_pipeline.run(build).shape == (8, 3)


class _WeightedLoss(tiny_pipeline.MeanSquare):
  """Weighted by a target: the auxiliary losses have to follow."""

  def FProp(self, theta, outputs, targets):
    weight = tf.reduce_sum(targets)
    each = tf.reduce_sum(tf.square(outputs), axis=-1)
    mean = tf.math.divide_no_nan(tf.reduce_sum(each * targets), weight)
    return {'loss': (mean, weight)}


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_loss_inside_contains_them_weighted_by_its_weight(schedule):
  # The weights are equal within a micro-batch.
  weights = np.repeat([1.0, 0.0, 4.0, 2.0], _SIZES).astype(np.float32)

  def build():
    layer = tiny_pipeline.pipeline(
      _subs(),
      loss_tpl=_WeightedLoss.Params().Set(name='loss'),
      schedule=schedule,
    ).Instantiate()
    x = tf.constant(tiny_pipeline.inputs(sum(_SIZES)))
    targets = tf.constant(weights)
    metrics = layer.ComputeLoss(layer.theta, x, targets)
    assert sorted(metrics) == ['aux_loss', 'loss']
    w = _variables(layer)
    outputs, aux = _by_hand(*w, x, targets)
    each = tf.reduce_sum(tf.square(outputs), axis=-1)
    total = tf.reduce_sum(each * targets) / tf.reduce_sum(targets)
    total += tf.add_n(aux)
    return (
      (metrics.aux_loss, (tf.add_n(aux), tf.reduce_sum(targets))),
      (metrics.loss, (total, tf.reduce_sum(targets))),
      (tf.gradients(metrics.loss[0], w), tf.gradients(total, w)),
    )

  for got, expected in tiny_pipeline.run(build, num_devices=2):
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_loss_inside_hands_nothing_to_a_context_around():
  def build():
    layer = tiny_pipeline.with_loss(_subs()).Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    with py_utils.AuxLossContext() as context:
      metrics = layer.ComputeLoss(layer.theta, x, tf.zeros_like(x))
    assert not context.aux_losses
    return metrics.aux_loss[0]

  assert tiny_pipeline.run(build) > 0


def test_one_that_is_no_scalar_is_refused():
  def build():
    layer = tiny_pipeline.with_loss(_subs(VectorAuxLoss)).Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    return layer.ComputeLoss(layer.theta, x, x).loss

  with pytest.raises(ValueError, match=r"'d0' adds an auxiliary loss of shape"):
    tiny_pipeline.run(build)
