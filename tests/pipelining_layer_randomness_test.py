# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dropout masks: distinct, the same for every cut, and when recomputed."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from lingvo.core import base_layer, layers, py_utils

_WIDTH = 64
_MICRO_BATCHES = 4


class MaskLayer(base_layer.BaseLayer):
  """Appends the dropout mask it draws to its input: [batch, n, width]."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w',
      py_utils.WeightParams(
        [_WIDTH], py_utils.WeightInit.Constant(1.0), tf.float32
      ),
    )
    self.CreateChild(
      'dropout', layers.DeterministicDropoutLayer.Params().Set(keep_prob=0.5)
    )

  def FProp(self, theta, x):
    ones = tf.ones([tf.shape(x)[0], 1, _WIDTH], x.dtype)
    ones *= tf.cast(theta.w, x.dtype)
    return tf.concat([x, self.dropout.FProp(theta.dropout, ones)], axis=1)


def _masks(num_cells, dtype, steps, recompute='always', num_layers=4):
  """For each step, the masks [micro-batch, layer, width] and w's gradients."""
  subs = [MaskLayer.Params().Set(name=f'l{i}') for i in range(num_layers)]
  params = pt.pipeline_params(1, _MICRO_BATCHES, recompute=recompute).Set(
    cell_tpl=pt.cells(subs, num_cells), loss_tpl=None
  )
  results = []
  with pt.cluster(num_cells), tf.Graph().as_default() as graph:
    global_step = py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    outputs = layer.FPropDefaultTheta(
      tf.zeros([_MICRO_BATCHES, 0, _WIDTH], dtype)
    )
    gradients = tf.gradients(
      tf.reduce_sum(tf.cast(outputs, tf.float32)), layer.vars.Flatten()
    )
    with pt.session(num_cells, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for step in steps:
        sess.run(tf.assign(global_step, step))
        results.append(sess.run((tf.cast(outputs, tf.float32), gradients)))
  return results


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_masks_near_step_a_million_are_all_distinct(dtype):
  # 16 steps of 4 micro-batches: 64 consecutive pairs, for each of 4 layers.
  steps = range(1_000_000, 1_000_016)
  masks = np.concatenate([m for m, _ in _masks(2, dtype, steps)])
  masks = masks.reshape([-1, _WIDTH])
  assert len(masks) == 64 * 4
  assert len(np.unique(masks, axis=0)) == len(masks)


@functools.cache
def _one_cell():
  return _masks(1, tf.float32, [1_000_000])[0]


@pytest.mark.parametrize('num_cells', [2, 4])
def test_masks_do_not_depend_on_the_cut(num_cells):
  masks, _ = _masks(num_cells, tf.float32, [1_000_000])[0]
  np.testing.assert_array_equal(masks, _one_cell()[0])


@pytest.mark.parametrize('recompute', ['always', 'except_last', 'never'])
def test_recomputed_masks_are_those_of_the_forward_pass(recompute):
  masks, gradients = _masks(2, tf.float32, [5], recompute)[0]
  # The gradient of a layer's weight is the mask it was multiplied with.
  expected = masks.sum(axis=0)
  assert expected.min() < expected.max()
  np.testing.assert_array_equal(np.stack(gradients), expected)


def test_random_seed_changes_the_masks():
  params = [
    layers.DeterministicDropoutLayer.Params().Set(
      name='drop', keep_prob=0.5, random_seed=seed
    )
    for seed in (1, 2)
  ]
  outputs = []
  for p in params:
    net = pt.pipeline_params(1).Set(
      cell_tpl=pt.cells([p], 1), loss_tpl=None, num_micro_batches=2
    )
    with pt.cluster(1), tf.Graph().as_default() as graph:
      py_utils.GetOrCreateGlobalStepVar()
      y = net.Instantiate().FPropDefaultTheta(tf.ones([2, _WIDTH]))
      with pt.session(1, graph) as sess:
        sess.run(tf.global_variables_initializer())
        outputs.append(sess.run(y))
  assert not np.array_equal(*outputs)
