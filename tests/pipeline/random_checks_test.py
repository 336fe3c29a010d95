# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random ops that draw the same for all micro-batches are found."""

import contextlib

import declared
import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import py_utils


class Random(declared.Layer):
  """Returns x plus what a function of x and the layer makes."""

  PARAMS = {'fn': None}

  def FProp(self, theta, x):
    return x + self.params.fn(x, self)


def _seeded(x, layer):
  return tf.random.stateless_uniform(
    [2], py_utils.GenerateStepSeedPair(layer.params)
  )


def _seeded_in_function(x, layer):
  seeds = py_utils.GenerateStepSeedPair(layer.params)
  return py_utils.CallDefun(
    lambda pair: tf.random.stateless_uniform([2], pair[1]), (x, seeds)
  )


@pytest.mark.parametrize(
  ('fn', 'is_fine'),
  [
    (lambda x, layer: tf.tanh(x), True),
    (_seeded, True),
    (_seeded_in_function, True),
    (lambda x, layer: tf.random.stateless_uniform([2], [1, 2]), False),
    (
      lambda x, layer: py_utils.CallDefun(
        lambda x: x + tf.random.stateless_uniform([2], [1, 2]), x
      ),
      False,
    ),
    # Its argument depends on the layer's seed, its own seed does not.
    (
      lambda x, layer: py_utils.CallDefun(
        lambda y: y + tf.random.stateless_uniform([2], [1, 2]),
        x * _seeded(x, layer),
      ),
      False,
    ),
    # A shape, or a number drawn before, says nothing of the seed.
    (
      lambda x, layer: tf.random.stateless_normal(
        tf.shape(_seeded(x, layer)), [1, 2]
      ),
      False,
    ),
    (
      lambda x, layer: tf.random.stateless_uniform(
        [2], [1, 2], maxval=_seeded(x, layer)
      ),
      False,
    ),
  ],
)
def test_seeds_that_all_micro_batches_share_are_refused(fn, is_fine):
  layer = Random.Params().Set(name='layer', fn=fn)
  expected = contextlib.nullcontext()
  if not is_fine:
    expected = tiny_pipeline.refused(
      r'Layer net\.d0\.layer \(Random\)', 'do not depend on the micro-batch'
    )
  with pt.graph(1):
    net = tiny_pipeline.pipeline([layer], 1).Instantiate()
    with expected:
      net.FPropDefaultTheta(tf.ones([8, 2]))
