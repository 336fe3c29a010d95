# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The same loss and gradients, however the model is cut and scheduled.

TensorFlow's graph optimisations are on, as they are for users.
"""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from lingvo.core import py_utils
from tensorflow.core.protobuf import rewriter_config_pb2

SCHEDULES = ('gpipe', '1f1b')
POLICIES = ('always', 'except_last', 'never')


@functools.cache
def _reference(batch=pt.BATCH, num_micro_batches=4):
  """One cell, fill-drain, recomputing always."""
  return pt.run_step(pt.pipeline_params(1, num_micro_batches), pt.data(batch))


@pytest.mark.parametrize('recompute', POLICIES)
@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('num_cells', [1, 2, 3, 4])
def test_bit_identical_for_every_cut_schedule_and_policy(
  num_cells, schedule, recompute
):
  params = pt.pipeline_params(num_cells, schedule=schedule, recompute=recompute)
  pt.assert_identical(pt.run_step(params, pt.data()), _reference())


@pytest.mark.parametrize('num_cells', [1, 3])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_bit_identical_with_uneven_micro_batches(num_cells, schedule):
  # Seven examples in micro-batches of 2, 2, 2 and 1.
  params = pt.pipeline_params(num_cells, schedule=schedule)
  pt.assert_identical(pt.run_step(params, pt.data(7)), _reference(batch=7))


def test_bit_identical_with_several_cells_on_a_device():
  params = pt.pipeline_params(4, schedule='1f1b')
  pt.assert_identical(
    pt.run_step(params, pt.data(), num_devices=2), _reference()
  )


def test_bit_identical_with_fewer_micro_batches_than_cells():
  params = pt.pipeline_params(4, num_micro_batches=2, schedule='1f1b')
  pt.assert_identical(
    pt.run_step(params, pt.data()), _reference(num_micro_batches=2)
  )


def _graph_options(**kwargs):
  return tf.compat.v1.GraphOptions(**kwargs)


def _rewriting(**kwargs):
  return _graph_options(
    rewrite_options=rewriter_config_pb2.RewriterConfig(**kwargs)
  )


@pytest.mark.parametrize('num_cells', [1, 3])
@pytest.mark.parametrize(
  'graph_options',
  [
    _rewriting(disable_meta_optimizer=True),
    _rewriting(
      arithmetic_optimization=rewriter_config_pb2.RewriterConfig.AGGRESSIVE,
      remapping=rewriter_config_pb2.RewriterConfig.AGGRESSIVE,
    ),
    _graph_options(
      optimizer_options=tf.compat.v1.OptimizerOptions(
        opt_level=tf.compat.v1.OptimizerOptions.L0
      )
    ),
    _graph_options(
      optimizer_options=tf.compat.v1.OptimizerOptions(
        global_jit_level=tf.compat.v1.OptimizerOptions.ON_2
      )
    ),
  ],
  ids=['no_rewriters', 'aggressive_rewriters', 'no_optimiser', 'xla'],
)
def test_bit_identical_however_the_session_is_configured(
  num_cells, graph_options
):
  params = pt.pipeline_params(num_cells, schedule='1f1b')
  result = pt.run_step(params, pt.data(), graph_options=graph_options)
  pt.assert_identical(result, _reference())


def _unpipelined(layer, examples):
  """The same layers in sequence, on the whole mini-batch."""
  outputs = examples.inputs
  for cell in layer.cells:
    outputs = cell.FProp(layer.theta[cell.params.name], *outputs)
  return layer.loss.FProp(layer.theta.loss, outputs, examples.targets)


@pytest.mark.parametrize('batch', [8, 7])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_agrees_with_the_unpipelined_model(batch, schedule):
  examples = pt.data(batch)
  params = pt.pipeline_params(3, keep_prob=1.0, schedule=schedule)
  plain = pt.run_step(
    params, examples, compute=lambda layer: _unpipelined(layer, examples)
  )
  pt.assert_close(pt.run_step(params, examples), plain)


def _loss_outside(layer, examples):
  outputs = layer.FProp(layer.theta, *examples.inputs)
  return layer.loss.FProp(layer.theta.loss, outputs, examples.targets)


@pytest.mark.parametrize('recompute', POLICIES)
@pytest.mark.parametrize('num_cells', [1, 4])
def test_loss_outside_is_bit_identical_over_cuts_and_policies(
  num_cells, recompute
):
  examples = pt.data()
  compute = functools.partial(_loss_outside, examples=examples)
  params = pt.pipeline_params(num_cells, recompute=recompute)
  reference = pt.run_step(pt.pipeline_params(2), examples, compute=compute)
  pt.assert_identical(pt.run_step(params, examples, compute=compute), reference)


def test_loss_outside_agrees_with_the_unpipelined_model():
  examples = pt.data(7)
  params = pt.pipeline_params(3, keep_prob=1.0)
  results = [
    pt.run_step(
      params, examples, compute=functools.partial(fn, examples=examples)
    )
    for fn in (_loss_outside, _unpipelined)
  ]
  pt.assert_close(*results)


def test_evaluation_is_bit_identical_over_cuts():
  results = [
    pt.run_step(pt.pipeline_params(k, keep_prob=1.0), pt.data(7), do_eval=True)
    for k in (1, 2, 4)
  ]
  np.testing.assert_equal(results[1].metrics, results[0].metrics)
  np.testing.assert_equal(results[2].metrics, results[0].metrics)


def test_unknown_batch_size_agrees_with_a_known_one():
  examples = pt.data(7)

  def compute(layer):
    inputs = [
      tf.placeholder_with_default(t, [None, *t.shape[1:]])
      for t in examples.inputs
    ]
    targets = examples.targets.Transform(
      lambda t: tf.placeholder_with_default(t, [None])
    )
    return layer.ComputeLoss(layer.theta, tuple(inputs), targets)

  # Not bit for bit: the graph optimiser does less where shapes are unknown.
  params = pt.pipeline_params(2, schedule='1f1b')
  pt.assert_close(
    pt.run_step(params, examples, compute=compute), _reference(batch=7)
  )


def test_weights_that_a_layer_does_not_use_get_no_gradient():
  class Unused(pt.ConvLayer):
    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('unused', py_utils.WeightParams([2]))

  subs = pt.layer_params(num_layers=3) + [Unused.Params().Set(name='l3')]
  params = pt.pipeline_params(1).Set(cell_tpl=pt.cells(subs, 2))
  gradients = pt.run_step(params, pt.data()).gradients
  assert gradients['net/l3/unused/var:0'] is None
  assert all(g is not None for n, g in gradients.items() if 'unused' not in n)


class _NeedsNoTargets(pt.Loss):
  def FProp(self, theta, outputs, targets):
    assert targets is None
    image, mean, _ = outputs
    examples = tf.cast(tf.shape(mean)[0], tf.float32)
    total = tf.reduce_sum(image**2) + tf.reduce_sum(mean**2)
    return {'loss': (total / examples, examples)}


def test_a_loss_without_targets():
  examples = pt.data(7)

  def piped(layer):
    return layer.ComputeLoss(layer.theta, examples.inputs, None)

  def plain(layer):
    outputs = examples.inputs
    for cell in layer.cells:
      outputs = cell.FProp(layer.theta[cell.params.name], *outputs)
    return layer.loss.FProp(layer.theta.loss, outputs, None)

  params = pt.pipeline_params(
    2, keep_prob=1.0, loss_tpl=_NeedsNoTargets.Params().Set(name='loss')
  )
  got, expected = (
    pt.run_step(params, examples, compute=compute) for compute in (piped, plain)
  )
  assert got.gradients.pop('net/loss/w/var:0') is None
  del expected.gradients['net/loss/w/var:0']
  pt.assert_close(got, expected)
