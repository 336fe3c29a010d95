# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline in a branch, or in the cell of another pipeline."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline

from lingvo_gpipe import pipelining_layer

_X = np.random.RandomState(0).normal(size=[8, 3]).astype(np.float32)


def _plain(x, weights):
  for w in weights:
    x = x + x @ w
  return x


def _inner(recompute):
  subs = [tiny_pipeline.Linear.Params().Set(name=f'l{i}') for i in range(2)]
  return tiny_pipeline.pipeline(subs, 2, recompute=recompute)


def _step(compute, params, num_devices=1, **kwargs):
  """The outputs, and the gradients of their sum of squares."""

  def build():
    layer = params.Instantiate()
    y = compute(layer)
    variables = layer.vars.Flatten()
    gradients = tf.gradients(tf.reduce_sum(y * y), variables, **kwargs)
    return y, gradients, [v.read_value() for v in variables]

  return tiny_pipeline.run(build, num_devices=num_devices)


def _assert_right(y, gradients, weights, rounds=1):
  def loss(values):
    out = _X.astype(np.float64)
    for _ in range(rounds):
      out = _plain(out, values)
    return (out * out).sum(), out

  values = [w.astype(np.float64) for w in weights]
  np.testing.assert_allclose(y, loss(values)[1], rtol=1e-4, atol=1e-5)
  for i, gradient in enumerate(gradients):
    for at in ((0, 1), (2, 2)):
      moved = [v.copy() for v in values]
      moved[i][at] += 1e-6
      slope = (loss(moved)[0] - loss(values)[0]) / 1e-6
      np.testing.assert_allclose(gradient[at], slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_pipeline_in_a_branch_has_its_gradients(recompute):
  def compute(layer):
    x = tf.constant(_X)
    return tf.cond(
      tf.reduce_sum(x) < 1e6, lambda: layer.FProp(layer.theta, x), lambda: x
    )

  _assert_right(*_step(compute, _inner(recompute)))


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_pipeline_in_a_pipelines_cell_has_its_gradients(recompute):
  outer = pipelining_layer.PipeliningLayer.Params().Set(
    name='outer',
    num_micro_batches=2,
    recompute=recompute,
    cell_tpl=[_inner(recompute).Set(name='inner')],
  )
  y, gradients, weights = _step(
    lambda layer: layer.FProp(layer.theta, tf.constant(_X)), outer
  )
  _assert_right(y, gradients, weights)


def _in_a_loop(layer):
  def body(i, x):
    return i + 1, layer.FProp(layer.theta, x)

  _, y = tf.while_loop(lambda i, x: i < 2, body, [0, tf.constant(_X)])
  return y


@pytest.mark.parametrize('num_devices', [1, 2])
def test_a_pipeline_in_a_loop_has_its_gradients(num_devices):
  _assert_right(*_step(_in_a_loop, _inner('always'), num_devices), rounds=2)


def test_a_loop_over_devices_whose_gradients_are_colocated_is_refused():
  colocated = {'colocate_gradients_with_ops': True}
  _assert_right(*_step(_in_a_loop, _inner('always'), 1, **colocated), rounds=2)
  with pytest.raises(
    ValueError, match=r'in a tf\.while_loop has .*CPU:0.*CPU:1.* to False'
  ):
    _step(_in_a_loop, _inner('always'), 2, **colocated)
