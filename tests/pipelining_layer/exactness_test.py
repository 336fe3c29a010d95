# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The same loss and gradients, however the model is cut and scheduled.

TensorFlow's graph optimisations are on, as they are for users.
"""

import functools
import itertools
import os
import subprocess
import sys

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from tensorflow.core.protobuf import rewriter_config_pb2

from lingvo_gpipe.schedules import RECOMPUTE_POLICIES as POLICIES
from lingvo_gpipe.schedules import SCHEDULE_NAMES


@functools.cache
def _reference(batch=pt.BATCH, num_micro_batches=4):
  """One cell, fill-drain, recomputing always."""
  return pt.run_step(pt.pipeline_params(1, num_micro_batches), pt.data(batch))


@pytest.mark.parametrize(
  ('num_cells', 'num_devices', 'schedule', 'recompute'),
  [
    *itertools.product([3], [3], ['gpipe', '1f1b', 'zb_h1', 'auto'], POLICIES),
    *itertools.product([4], [4], ['gpipe', '1f1b'], POLICIES),
    (2, 2, 'gpipe', 'never'),
    (1, 1, '1f1b', 'except_last'),
    # Several cells on a device.
    (4, 2, '1f1b', 'always'),
    *itertools.product([4], [2], SCHEDULE_NAMES[2:], POLICIES),
    *itertools.product([2], [1], ['interleaved_1f1b', 'zb_v'], ['always']),
  ],
)
def test_bit_identical_for_every_cut_schedule_policy_and_number_of_devices(
  num_cells, num_devices, schedule, recompute
):
  params = pt.pipeline_params(num_cells, schedule=schedule, recompute=recompute)
  got = pt.run_step(params, pt.data(), num_devices=num_devices)
  pt.assert_identical(got, _reference())


@pytest.mark.parametrize(
  ('num_cells', 'batch', 'num_micro_batches'),
  [
    (3, 7, 4),  # Micro-batches of 2, 2, 2 and 1.
    (4, 8, 2),  # Fewer micro-batches than cells.
  ],
)
def test_bit_identical_for_every_number_of_micro_batches(
  num_cells, batch, num_micro_batches
):
  params = pt.pipeline_params(num_cells, num_micro_batches, schedule='1f1b')
  got = pt.run_step(params, pt.data(batch))
  pt.assert_identical(got, _reference(batch, num_micro_batches))


_AGGRESSIVE = rewriter_config_pb2.RewriterConfig.AGGRESSIVE


@pytest.mark.parametrize(
  'options',
  [
    {'rewrite_options': {'disable_meta_optimizer': True}},
    {
      'rewrite_options': {
        'arithmetic_optimization': _AGGRESSIVE,
        'remapping': _AGGRESSIVE,
      }
    },
    {'optimizer_options': {'opt_level': tf.tf1.OptimizerOptions.L0}},
    {'optimizer_options': {'global_jit_level': tf.tf1.OptimizerOptions.ON_2}},
  ],
  ids=['no_rewriters', 'aggressive_rewriters', 'no_optimiser', 'xla'],
)
def test_bit_identical_however_the_session_is_configured(options):
  params = pt.pipeline_params(3, schedule='1f1b')
  result = pt.run_step(params, pt.data(), graph_options=options)
  pt.assert_identical(result, _reference())


@functools.cache
def _with_the_loss_outside(num_cells, recompute):
  examples = pt.data()

  def compute(layer):
    outputs = layer.FProp(layer.theta, *examples.inputs)
    return layer.loss.FProp(layer.theta.loss, outputs, examples.targets)

  params = pt.pipeline_params(num_cells, recompute=recompute)
  return pt.run_step(params, compute=compute)


@pytest.mark.parametrize(
  ('num_cells', 'recompute'), [*itertools.product([4], POLICIES), (2, 'never')]
)
def test_bit_identical_with_the_loss_outside(num_cells, recompute):
  pt.assert_identical(
    _with_the_loss_outside(num_cells, recompute),
    _with_the_loss_outside(1, 'always'),
  )


def test_evaluation_is_bit_identical_over_cuts():
  first, *others = [
    pt.run_step(pt.pipeline_params(k, keep_prob=1.0), pt.data(7), do_eval=True)
    for k in (1, 2, 4)
  ]
  for other in others:
    np.testing.assert_equal(other.metrics, first.metrics)


_CLUSTERED = """
import lingvo_gpipe
import pipeline_testing as pt

first, *others = [
  pt.run_step(pt.pipeline_params(cells, schedule=schedule, recompute=policy),
              pt.data())
  for cells, schedule, policy in (
    (1, 'gpipe', 'always'), (3, '1f1b', 'never'), (2, 'zb_h1', 'always'))
]
for other in others:
  pt.assert_identical(other, first)
"""


def test_bit_identical_where_xla_may_cluster_ops():
  flags = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit'
  subprocess.run(
    [sys.executable, '-c', _CLUSTERED],
    env=os.environ
    | {'TF_XLA_FLAGS': flags, 'PYTHONPATH': os.pathsep.join(sys.path)},
    check=True,
  )
