# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses inside the pipeline whose weights are uneven, zero or very large."""

import itertools

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import base_layer, py_utils

_VARIANTS = [
  (1, 'gpipe', 'always'),
  (1, '1f1b', 'never'),
  *itertools.product([2], ['gpipe', '1f1b'], ['always', 'never']),
]


class WeightedMean(base_layer.BaseLayer):
  """A mean by plain division: 0 / 0 if nothing has a weight."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('scale', 1.0, 'Of the loss.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'table', py_utils.WeightParams([5], py_utils.WeightInit.Gaussian(0.5))
    )

  def FProp(self, theta, outputs, targets):
    bias = tf.cast(tf.gather(theta.table, targets.ids), tf.float32)
    each = tf.reduce_sum(tf.cast(tf.square(outputs), tf.float32), axis=-1)
    total = tf.reduce_sum((each + bias) * targets.weights)
    weight = tf.reduce_sum(targets.weights)
    return {'loss': (self.params.scale * total / weight, weight)}


class AuxMean(tiny_pipeline.Linear):
  """Adds an auxiliary loss, a mean over the examples that are not zero."""

  def FProp(self, theta, x):
    used = tf.cast(tf.reduce_any(tf.not_equal(x, 0), axis=-1), tf.float32)
    each = tf.reduce_sum(tf.square(tf.matmul(x, theta.w)), axis=-1)
    py_utils.AuxLossContext.Current().AddLoss(
      tf.reduce_sum(each * used) / tf.reduce_sum(used)
    )
    return super().FProp(theta, x)


def _gradients(subs, weights, variant, *, x=None, scale=1.0, dtype=tf.float32):
  """By the pipeline and by the plain layers: the loss, then gradients."""
  num_cells, schedule, recompute = variant
  loss_tpl = WeightedMean.Params().Set(name='loss', scale=scale)

  def build():
    layer = tiny_pipeline.pipeline(
      subs,
      num_cells,
      loss_tpl=loss_tpl,
      schedule=schedule,
      recompute=recompute,
      fprop_dtype=dtype,
    ).Instantiate()
    inputs = tf.cast(tiny_pipeline.inputs() if x is None else x, dtype)
    targets = py_utils.NestedMap(
      ids=tf.constant([0, 1, 1, 2, 3, 3, 3, 0]),
      weights=tf.constant(weights, tf.float32),
    )
    piped = layer.ComputeLoss(layer.theta, inputs, targets).loss[0]
    with py_utils.AuxLossContext() as aux:
      outputs = tiny_pipeline.unpipelined(layer, inputs)
    plain = layer.loss.FProp(layer.theta.loss, outputs, targets)['loss'][0]
    plain += tf.add_n([tf.zeros([]), *aux.aux_losses])
    variables = tf.trainable_variables()
    return [
      (loss, [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)])
      for loss in (piped, plain)
    ]

  return tiny_pipeline.run(build, num_devices=num_cells)


def _assert_all_agree(got):
  """Each variant with the plain layers, and all variants in every bit."""
  for piped, plain in got:
    assert np.isfinite(plain[0])
    tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
      piped,
      plain,
    )
    tf.nest.map_structure(np.testing.assert_array_equal, piped, got[0][0])


@pytest.mark.parametrize(
  'weights',
  [(2, 1, 0, 0, 0, 3, 1, 1), (0, 0, 2, 1, 3, 1, 0, 0)],
)
def test_a_micro_batch_without_weight_adds_nothing(weights):
  _assert_all_agree(
    [
      _gradients(tiny_pipeline.linear('a', 'b'), weights, variant)
      for variant in _VARIANTS
    ]
  )


def test_nor_does_its_auxiliary_loss():
  x = tiny_pipeline.inputs()
  x[2:4] = 0
  weights = (1, 1, 0, 0, 1, 1, 1, 1)
  subs = [AuxMean.Params().Set(name=name) for name in 'ab']
  _assert_all_agree(
    [_gradients(subs, weights, variant, x=x) for variant in _VARIANTS]
  )


@pytest.mark.parametrize(
  ('weight', 'scale'), [(5e4, 1.0), (8.0, 2.0**12), (5e4, 2.0**12)]
)
def test_float16_overflows_no_earlier_than_the_plain_layers(weight, scale):
  weights = weight * np.array([1, 1, 1, 2, 1, 1, 0.5, 1])
  x = tiny_pipeline.inputs() / 4
  for variant in _VARIANTS:
    piped, plain = _gradients(
      tiny_pipeline.linear('a', 'b'),
      weights,
      variant,
      x=x,
      scale=scale,
      dtype=tf.float16,
    )
    for got, expected in zip(piped[1], plain[1], strict=True):
      assert np.all(np.isfinite(expected))
      error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
      assert error < 5e-3, variant
