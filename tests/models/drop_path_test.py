# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of drop path."""

import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils

from lingvo_gpipe.models import drop_path


def _layer(**params):
  return layer_testing.make(drop_path.DropPathLayer, **params)


def _at_step(step, do_eval=False, examples=4000, **params):
  with (
    layer_testing.graph_session(do_eval) as session,
    py_utils.GlobalStepContext(tf.constant(step, tf.int64)),
  ):
    outputs = _layer(**params).FPropDefaultTheta(tf.ones([examples, 2, 3]))
    return layer_testing.run(session, outputs)


def test_drops_whole_examples_and_keeps_the_mean():
  values = _at_step(5, keep_prob=0.75)
  assert set(np.unique(values)) == {np.float32(0.0), np.float32(1 / 0.75)}
  assert (values.max((1, 2)) == values.min((1, 2))).all()
  assert abs(values.mean() - 1.0) < 0.05


def test_depends_on_the_step_only():
  first, again, other = (_at_step(s, keep_prob=0.5) for s in (3, 3, 4))
  assert (first == again).all()
  assert 0.4 < (first != other).mean() < 0.6


@pytest.mark.parametrize(
  ('step', 'kept'), [(0, 1.0), (50, 0.75), (100, 0.5), (1000, 0.5)]
)
def test_ramp_falls_linearly_and_stays(step, kept):
  values = _at_step(step, keep_prob=0.5, ramp_steps=100)
  assert abs((values > 0).mean() - kept) < 0.03
  np.testing.assert_allclose(values.max(), 1 / kept, rtol=1e-6)


def test_evaluation_keeps_everything():
  assert (_at_step(3, do_eval=True, keep_prob=0.5) == 1.0).all()


def test_a_dropped_example_leaves_no_nan():
  with layer_testing.graph_session() as session:
    inputs = tf.fill([100, 1], np.nan)
    outputs = _layer(keep_prob=0.5).FPropDefaultTheta(inputs)
    values = layer_testing.run(session, outputs)
  assert 20 < (values == 0.0).sum() < 80


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'keep_prob': 0.0}, r'keep_prob.*0\.0'),
    ({'keep_prob': 1.5}, r'keep_prob.*1\.5'),
    ({'ramp_steps': -1}, r'ramp_steps.*-1'),
  ],
)
def test_refuses_impossible_params(params, message):
  with layer_testing.refused(message):
    _layer(**params)
