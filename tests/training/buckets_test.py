# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Buckets with fewer examples than micro-batches are told at the start."""

import types

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_input_generator, py_utils

from lingvo_gpipe.training import buckets, user_error


def _check(limits, *, batch=None, num_micro_batches=8):
  """Builds a training step on batches of some size and checks its model."""
  net = tiny_pipeline.with_loss(
    tiny_pipeline.linear('l0', 'l1'), num_micro_batches=num_micro_batches
  )
  generator = base_input_generator.BaseSequenceInputGenerator.Params().Set(
    bucket_batch_limit=limits, bucket_upper_bound=[10, 20, 40][: len(limits)]
  )
  with pt.cluster(2), tf.Graph().as_default():
    task = tiny_pipeline.task_params(net).Instantiate()
    x = tf.placeholder(tf.float32, [batch, tiny_pipeline.WIDTH])
    task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=x))
    task.params.input = generator
    buckets.check(types.SimpleNamespace(tasks=[task]))


def test_a_small_bucket_is_named_with_the_pipeline_and_both_numbers():
  with pytest.raises(
    user_error.UserError,
    match=(
      r'^task\.net: num_micro_batches \(--micro_batches\) is 8, but bucket 2 '
      r'\(bucket_upper_bound 40\) of the input has batches of 5 examples .*'
      'num_micro_batches to 5 or less, or that bucket_batch_limit to 8 or more'
    ),
  ):
    _check([32, 16, 5])


def test_buckets_that_are_large_enough():
  _check([32, 16, 8])


def test_a_batch_that_is_known_makes_fewer_micro_batches():
  _check([5], batch=5)


def test_inputs_without_buckets():
  with pt.cluster(1), tf.Graph().as_default():
    task = tiny_pipeline.task_params(
      tiny_pipeline.with_loss(tiny_pipeline.linear('l'), 1)
    ).Instantiate()
    buckets.check(types.SimpleNamespace(tasks=[task]))


def test_evaluation_takes_batches_of_all_buckets():
  net = tiny_pipeline.with_loss(
    tiny_pipeline.linear('l0', 'l1'), num_micro_batches=8
  )
  with pt.cluster(2, do_eval=True), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = net.Instantiate()
    x = tf.placeholder(tf.float32, [None, tiny_pipeline.WIDTH])
    y = tf.zeros_like(x)
    outputs = layer.FProp(layer.theta, x)
    metrics = layer.ComputeLoss(layer.theta, x, y)
    plain = tiny_pipeline.unpipelined(layer, x)
    loss = layer.loss.FProp(layer.theta.loss, plain, y)['loss']
    with pt.session(2, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for examples in (32, 16, 5, 1):
        batch = {x: tiny_pipeline.inputs(examples)}
        got, want = sess.run(((outputs, metrics.loss), (plain, loss)), batch)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
        assert got[1][1] == examples
