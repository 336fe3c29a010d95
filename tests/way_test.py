# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""In how many files of lingvo_gpipe/ a function runs on the way to a result.

Whoever follows a call has to open all of them.
"""

import contextlib
import pathlib
import sys
import threading

import lingvo.compat as tf
import pytest
import tiny_pipeline
from lingvo.core import layers, py_utils

import lingvo_gpipe
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.cutting import partitioner

_ROOT = pathlib.Path(lingvo_gpipe.__file__).parent


@contextlib.contextmanager
def files_passed():
  """The files that calls inside pass through, all threads together."""
  passed = set()

  def profile(frame, event, arg):
    del arg
    path = pathlib.PurePath(frame.f_code.co_filename)
    if event == 'call' and path.is_relative_to(_ROOT):
      passed.add(str(path.relative_to(_ROOT)))

  before = sys.getprofile()
  threading.setprofile(profile)
  sys.setprofile(profile)
  try:
    yield passed
  finally:
    sys.setprofile(before)
    threading.setprofile(None)


@pytest.fixture
def params():
  """Params of a pipeline whose costs this process does not know any more."""
  params = _params()
  pipeline_plan.cost_layers(params, 2)  # What runs once does not count.
  pipeline_plan._known.clear()
  return params


def _params():
  return lingvo_gpipe.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=[
      layers.ProjectionLayer.Params().Set(
        name=f'layer_{i}', input_dim=6, output_dim=6, batch_norm=False
      )
      for i in range(6)
    ],
    num_partitions=2,
    num_micro_batches=4,
    input_shapes='float32[4,6]',
  )


def test_from_costs_to_the_cut(params):
  _, costs, spec, _ = pipeline_plan.cost_layers(params, 2)
  with files_passed() as passed:
    partitioner.partition(costs, spec)
  assert len(passed) <= 10, sorted(passed)


@pytest.mark.parametrize(('balance', 'most'), [('params', 16), ('flops', 20)])
def test_from_params_to_the_cut(params, balance, most):
  with files_passed() as passed:
    pipeline_plan.make_plan(params.Set(balance=balance), 2)
  assert len(passed) <= most, sorted(passed)


def test_from_the_loss_to_its_ops_and_gradients():
  params = _params().Set(
    balance='params', loss_tpl=tiny_pipeline.MeanSquare.Params()
  )
  with tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    net = params.Instantiate()
    theta, x, y = net.theta, tf.zeros([16, 6]), tf.ones([16, 6])
    for _ in range(2):  # The layer keeps its schedule.
      with files_passed() as passed:
        metrics = net.ComputeLoss(theta, x, y)
        tf.gradients(metrics.loss[0], net.vars.Flatten())
  assert len(passed) <= 20, sorted(passed)
