# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accumulators of layers in cells: handed from micro-batch to micro-batch."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from example_model import Batch, inside, outside, plain
from lingvo.core import base_layer


class _Accumulator(base_layer.Accumulator):
  def __init__(self, default):
    super().__init__()
    self._default = default

  def DefaultValue(self):
    return tf.constant(self._default, tf.float32)


class Watch(tiny_pipeline.Linear):
  def __init__(self, params):
    super().__init__(params)
    self.RegisterAccumulator('total', _Accumulator(0.0))
    self.RegisterAccumulator('largest', _Accumulator(-np.inf))
    self.RegisterAccumulator('last', _Accumulator([0.0] * tiny_pipeline.WIDTH))

  def FProp(self, theta, x):
    accumulators = self.accumulators
    total, largest = accumulators.total, accumulators.largest
    total.SetValue(total.GetValue() + tf.reduce_sum(x))
    largest.SetValue(tf.maximum(largest.GetValue(), tf.reduce_max(x)))
    accumulators.last.SetValue(x[-1])
    return super().FProp(theta, x)


def _values(layer):
  return {
    name: sub.accumulators.Transform(lambda a: a.GetValue())
    for name, sub in tiny_pipeline.subs_of(layer).items()
  }


def _params(**kwargs):
  subs = [Watch.Params().Set(name=f'l{i}') for i in range(2)]
  return tiny_pipeline.with_loss(subs, **kwargs)


def _run(compute, start=0.0, **kwargs):
  def build():
    layer = _params(**kwargs).Instantiate()
    for sub in tiny_pipeline.subs_of(layer).values():
      sub.accumulators.total.SetValue(tf.constant(start))
    x = tf.constant(tiny_pipeline.inputs())
    loss = compute(layer, Batch(x, tf.zeros_like(x)))['loss'][0]
    # In one run, so that the gradient's tasks run beside the accumulators'.
    return _values(layer), tf.gradients(loss, layer.vars.Flatten())

  return tiny_pipeline.run(build)[0]


@pytest.mark.parametrize(
  ('compute', 'kwargs'),
  [
    (inside, {'schedule': 'gpipe', 'recompute': 'always'}),
    (inside, {'schedule': '1f1b', 'recompute': 'never'}),
    (inside, {'num_micro_batches': 1}),
    (inside, {'start': 100.0}),
    (outside, {'recompute': 'always'}),
  ],
)
def test_chained_over_micro_batches_once_each(compute, kwargs):
  got, expected = _run(compute, **kwargs), _run(plain)
  for name, values in expected.items():
    values.total += kwargs.get('start', 0.0)
    for key, value in values.FlattenItems():
      np.testing.assert_allclose(got[name][key], value, rtol=1e-6, err_msg=name)


def test_disabled_ones_stay_at_their_default_and_enabled_after():
  def build():
    layer = _params().Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    layer.accumulators.Transform(lambda a: a.Disable())
    layer.ComputeLoss(layer.theta, x, tf.zeros_like(x))
    layer.accumulators.Transform(lambda a: a.Enable())
    return _values(layer)

  for values in tiny_pipeline.run(build).values():
    assert values.total == 0.0
    assert values.largest == -np.inf
