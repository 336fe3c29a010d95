# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import types

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline as tiny
from lingvo.core import base_input_generator, hyperparams, py_utils

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.training import devices, user_error


def _sequential(**kwargs):
  return sequential_layer.GPipeSequentialLayer.Params().Set(name='s', **kwargs)


@pytest.mark.parametrize(
  ('params', 'num_cells'),
  [
    (_sequential(num_partitions=4), [4]),
    (_sequential(splits=[3, 5]), [3]),
    (_sequential(), []),  # It takes what devices there are.
    (tiny.pipeline(tiny.linear('a', 'b', 'c'), 3), [3]),
  ],
)
def test_a_number_of_cells_that_params_fix_is_found(params, num_cells):
  model = hyperparams.Params()
  model.Define('net', params, '')
  found = devices.fixed_pipelines(model)
  assert [p.num_cells for p in found] == num_cells
  assert all(p.schedule == params.schedule for p in found)
  for p in devices.fixed_pipelines(model, 'zb_v'):  # What a flag says counts.
    assert p.schedule == 'zb_v'


def _check(num_devices, schedule='1f1b'):
  fixed = devices.FixedPipeline('net', 4, schedule, 'num_partitions=4')
  devices.check([fixed], num_devices, f'--worker_split_size={num_devices}')


def test_fewer_devices_than_cells_are_an_error_unless_the_schedule_wants_them():
  _check(4)
  _check(8)
  _check(2, 'interleaved_1f1b')
  with pytest.raises(
    user_error.UserError,
    match=(
      r"^--worker_split_size=2: pipeline 'net' has 4 cells \(num_partitions=4\)"
      r", but only 2 device\(s\) under '1f1b'\. Give it 4 devices, other cells"
    ),
  ):
    _check(2)


def _check_buckets(limits, batch=None):
  net = tiny.with_loss(tiny.linear('l0', 'l1'), num_micro_batches=8)
  generator = base_input_generator.BaseSequenceInputGenerator.Params().Set(
    bucket_batch_limit=limits, bucket_upper_bound=[10, 20, 40][: len(limits)]
  )
  with pt.cluster(2), tf.Graph().as_default():
    task = tiny.task_params(net).Instantiate()
    x = tf.placeholder(tf.float32, [batch, tiny.WIDTH])
    task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=x))
    task.params.input = generator
    devices.check_buckets(types.SimpleNamespace(tasks=[task]))


def test_a_small_bucket_is_named_with_the_pipeline_and_both_numbers():
  with pytest.raises(
    user_error.UserError,
    match=(
      r'^task\.net: num_micro_batches \(--micro_batches\) is 8, but bucket 2 '
      r'\(bucket_upper_bound 40\) of the input has batches of 5 examples .*'
      'num_micro_batches to 5 or less, or that bucket_batch_limit to 8 or more'
    ),
  ):
    _check_buckets([32, 16, 5])


@pytest.mark.parametrize(
  ('limits', 'batch'),
  [
    ([32, 16, 8], None),
    ([5], 5),  # A batch that is known makes fewer micro-batches.
    ([], None),
  ],
)
def test_buckets_that_are_large_enough_or_none(limits, batch):
  _check_buckets(limits, batch)


def test_evaluation_takes_batches_of_any_size():
  net = tiny.with_loss(tiny.linear('l0', 'l1'), num_micro_batches=8)
  with pt.cluster(2, do_eval=True), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = net.Instantiate()
    x = tf.placeholder(tf.float32, [None, tiny.WIDTH])
    y = tf.zeros_like(x)
    outputs = layer.FProp(layer.theta, x)
    metrics = layer.ComputeLoss(layer.theta, x, y)
    plain = tiny.unpipelined(layer, x)
    loss = layer.loss.FProp(layer.theta.loss, plain, y)['loss']
    with pt.session(2, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for examples in (32, 16, 5, 1):
        batch = {x: tiny.inputs(examples)}
        got, want = sess.run(((outputs, metrics.loss), (plain, loss)), batch)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
        assert got[1][1] == examples
