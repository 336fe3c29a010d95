# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The layers without a pipeline, beside a pipeline of one micro-batch."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline as tiny
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import plain_run


class _Aux(base_layer.BaseLayer):
  """Adds an auxiliary loss where one is wanted."""

  def FProp(self, theta, x):
    context = py_utils.AuxLossContext.Current()
    if context is not None:
      context.AddLoss(0.1 * tf.reduce_mean(tf.square(x)))
    return x


class _Tied(named_layers.NamedValueLayer):
  """x w of another layer."""

  def FProp(self, theta, x):
    return tf.matmul(x, theta.shared)


def _layers():
  return [
    *tiny.linear('a'),
    named_layers.PutLayer.Params().Set(name='put', puts=['skip']),
    _Aux.Params().Set(name='aux'),
    _Tied.Params().Set(name='tied', weights_of={'shared': 'a.w'}),
    named_layers.TakeLayer.Params().Set(name='take', takes=['skip', 'side']),
    *tiny.linear('b'),
  ]


def _assert_same(compute, **kwargs):
  """Asserts that `compute` gives of a pipeline what its layers give."""

  def build():
    net = tiny.pipeline(
      _layers(),
      num_micro_batches=1,
      side_inputs=['side'],
      before_tpl=tiny.linear('before'),
      **kwargs,
    ).Instantiate()
    x, y = tf.constant(tiny.inputs()), tf.constant(tiny.inputs(seed=2))

    def run():
      results = compute(net, x, y)
      variables = net.vars.Flatten()
      return results, tf.gradients(results[0], variables)

    pipelined = run()
    with plain_run.without_pipeline() as runs:
      plain = run()
    assert len(runs) == 1
    return pipelined, plain

  pipelined, plain = tiny.run(build, num_devices=2)
  assert len(tf.nest.flatten(plain)) > 3
  tiny.assert_close(pipelined, plain)


def test_outputs_and_gradients_are_those_of_a_pipeline():
  def compute(net, x, y):
    return [net.FProp(net.theta, x, side_inputs={'side': y})]

  _assert_same(compute)


def test_metrics_and_gradients_are_those_of_a_pipeline():
  def compute(net, x, y):
    metrics = net.ComputeLoss(net.theta, x, y, side_inputs={'side': y})
    assert 'aux_loss' in metrics
    return [*metrics.loss, *metrics.aux_loss]

  loss = tiny.MeanSquare.Params().Set(name='loss')
  _assert_same(compute, loss_tpl=loss)


def test_the_loss_of_each_micro_batch_is_that_of_its_part():
  def build():
    net = tiny.with_loss(tiny.linear('a', 'b'), num_micro_batches=3)
    net = net.Instantiate()
    x = tf.constant(tiny.inputs())
    with plain_run.without_pipeline() as runs:
      net.ComputeLoss(net.theta, x, tf.zeros_like(x))
    [run] = runs
    y = run.outputs()
    return y, run.own_metrics.loss, [m.loss for m in run.metrics_of_parts()]

  y, whole, parts = tiny.run(build, num_devices=2)
  squares = np.sum(np.square(y), axis=1) / 2
  assert whole == (pytest.approx(np.mean(squares)), 8)
  assert [weight for _, weight in parts] == [3, 3, 2]
  for (value, _), part in zip(parts, np.split(squares, [3, 6]), strict=True):
    assert value == pytest.approx(np.mean(part))


def test_outside_of_the_context_there_is_a_pipeline_again():
  with pytest.raises(KeyError), plain_run.without_pipeline():
    assert plain_run.OPEN.stack
    raise KeyError
  assert not plain_run.OPEN.stack
