# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Variational noise is added to weights on their own device."""

import declared
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import py_utils

_WIDTH = 64
_NAMES = ('a', 'b', 'c', 'd')


class NoisyLinear(declared.Layer):
  """x w, of [batch, _WIDTH], with noise on w."""

  WEIGHTS = {'w': [_WIDTH, _WIDTH]}

  def AddGlobalVN(self, theta):
    theta = super().AddGlobalVN(theta)
    theta.w = self.AddVN(theta.w)
    return theta

  def FProp(self, theta, x):
    return tf.matmul(x, theta.w)


class NoisyLoss(NoisyLinear):
  def FProp(self, theta, outputs, targets):
    square = tf.square(super().FProp(theta, outputs) - targets)
    examples = tf.cast(tf.shape(outputs)[0], tf.float32)
    total = tf.reduce_sum(tf.cast(square, tf.float32)) / 2
    return {'loss': (total / examples, examples)}


def _task(num_cells, noise, dtype=tf.float32):
  net = tiny_pipeline.pipeline(
    [NoisyLinear.Params().Set(name=name) for name in _NAMES],
    num_cells,
    loss_tpl=NoisyLoss.Params().Set(name='loss'),
  ).Set(schedule='1f1b', fprop_dtype=dtype)
  p = tiny_pipeline.task_params(net)
  p.train.Set(vn_std=0.1 if noise else 0.0, vn_start_step=0)
  p.vn = py_utils.VariationalNoiseParams(
    None, global_vn=True, seed=1, deterministic=True
  )
  return p


def _batch(dtype=tf.float32):
  x = tf.cast(tiny_pipeline.inputs(8, width=_WIDTH), dtype)
  return py_utils.NestedMap(x=x, y=tf.zeros_like(x))


def _elements_sent(noise, dtype):
  """How many numbers go from device to device in a step, in large tensors."""
  with pt.graph(2) as graph:
    task = _task(2, noise, dtype).Instantiate()
    task.FPropDefaultTheta(_batch(dtype))
    task.BProp()
    sizes = [size for _, _, size in pt.sent(graph, 2, task.train_op)]
  assert sizes
  return sum(size for size in sizes if size > 8)


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_noise_sends_no_weights_between_devices(dtype):
  assert _elements_sent(True, dtype) == _elements_sent(False, dtype)


def _loss(num_cells, do_eval=False, noise=True):
  def build():
    task = _task(num_cells, noise).Instantiate()
    metrics, _ = task.FPropDefaultTheta(_batch())
    return metrics['loss'][0]

  return tiny_pipeline.run(build, num_devices=num_cells, do_eval=do_eval)


def test_noise_does_not_depend_on_the_cut():
  loss = _loss(1)
  np.testing.assert_array_equal([_loss(2), _loss(4)], [loss, loss])
  assert loss != _loss(1, noise=False)


def test_evaluation_has_no_noise():
  assert _loss(2, do_eval=True) == _loss(2, do_eval=True, noise=False)
