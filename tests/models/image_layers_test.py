# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils

from lingvo_gpipe.models import image_layers


def _image(*shape):
  return np.random.RandomState(3).randn(*shape).astype(np.float32)


@pytest.mark.parametrize('size', [4, 5])
def test_factorized_reduction_reads_pixels_one_apart(size):
  with layer_testing.graph_session(do_eval=True) as session:
    layer = layer_testing.make(
      image_layers.FactorizedReduction, input_dim=2, output_dim=3
    )
    image = _image(1, size, size, 2)
    outputs = layer.FPropDefaultTheta(tf.constant(image))
    even, odd, values = layer_testing.run(
      session, [layer.even.vars.w, layer.odd.vars.w, outputs]
    )
  image = np.maximum(image, 0.0)
  shifted = np.pad(image, [(0, 0), (0, 1), (0, 1), (0, 0)])[:, 1:, 1:]
  want = np.concatenate(
    [image[:, ::2, ::2] @ even[0, 0], shifted[:, ::2, ::2] @ odd[0, 0]], -1
  )
  np.testing.assert_allclose(values, want / np.sqrt(1.001), 1e-4, 1e-5)


def _drop_path(**params):
  return layer_testing.make(image_layers.DropPathLayer, **params)


def _at_step(step, do_eval=False, **params):
  with (
    layer_testing.graph_session(do_eval) as session,
    py_utils.GlobalStepContext(tf.constant(step, tf.int64)),
  ):
    outputs = _drop_path(**params).FPropDefaultTheta(tf.ones([4000, 2, 3]))
    return layer_testing.run(session, outputs)


def test_drops_whole_examples_by_the_step_and_keeps_the_mean():
  values = _at_step(5, keep_prob=0.75)
  assert set(np.unique(values)) == {np.float32(0.0), np.float32(1 / 0.75)}
  assert (values.max((1, 2)) == values.min((1, 2))).all()
  assert abs(values.mean() - 1.0) < 0.05
  first, again, other = (_at_step(s, keep_prob=0.5) for s in (3, 3, 4))
  assert (first == again).all()
  assert 0.4 < (first != other).mean() < 0.6
  assert (_at_step(3, do_eval=True, keep_prob=0.5) == 1.0).all()


def test_a_dropped_example_leaves_no_nan():
  with layer_testing.graph_session() as session:
    inputs = tf.fill([100, 1], np.nan)
    outputs = _drop_path(keep_prob=0.5).FPropDefaultTheta(inputs)
    values = layer_testing.run(session, outputs)
  assert 20 < (values == 0.0).sum() < 80


@pytest.mark.parametrize('keep_prob', [0.0, 1.5])
def test_refuses_impossible_probabilities(keep_prob):
  with layer_testing.refused(f'keep_prob.*got {keep_prob}'):
    _drop_path(keep_prob=keep_prob)
