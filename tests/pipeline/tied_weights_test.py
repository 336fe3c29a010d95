# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tied weights in theta, for layers that run without a pipeline."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import builder_layers

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import tied_weights
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)


class _Transposed(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return tf.matmul(x, theta.w, transpose_b=True)


def _transposed(name, reference):
  return _Transposed.Params().Set(name=name, weights_of={'w': reference})


def _sequence(name, *sub, **kwargs):
  return builder_layers.SequentialLayer.Params().Set(
    name=name, sub=list(sub), **kwargs
  )


def _cell(name, *sub):
  return FeatureExtractionLayer.Params().Set(name=name, sub=list(sub))


@pytest.mark.parametrize(
  ('net', 'reference'),
  [
    (lambda a, t: _sequence('net', a, t), 'a.w'),
    (lambda a, t: _sequence('net', _sequence('in', a), t), 'in/a.w'),
    (lambda a, t: _cell('net', _cell('in', a), _sequence('s', t)), 'in/a.w'),
    (lambda a, t: _sequence('net', _sequence('in', a, repeat=1), t), 'in/a.w'),
  ],
)
def test_the_owners_weights_stand_in_the_users_theta(net, reference):
  [owner] = tiny_pipeline.linear('a')
  x = tiny_pipeline.inputs()

  def build():
    layer = net(owner, _transposed('t', reference)).Instantiate()
    [w] = tf.trainable_variables()
    y = layer.FProp(tied_weights.tie(layer, layer.theta), tf.constant(x))
    expected = tf.matmul(x + tf.matmul(x, w), w, transpose_b=True)
    return (y, tf.gradients(y, w)), (expected, tf.gradients(expected, w))

  got, expected = tiny_pipeline.run(build)
  for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_repetition_is_an_owner_of_its_own():
  [owner] = tiny_pipeline.linear('a')

  def build():
    layer = _sequence(
      'net', _sequence('in', owner, repeat=2), _transposed('t', 'in/001/a.w')
    ).Instantiate()
    theta = tied_weights.tie(layer, layer.theta)
    assert theta.t.w is layer.theta['in'].rep[1].a.w
    return tf.constant(0)

  tiny_pipeline.run(build)


def test_theta_without_tied_weights_is_left_as_it_is():
  def build():
    layer = _sequence('net', *tiny_pipeline.linear('a', 'b')).Instantiate()
    theta = layer.theta
    assert tied_weights.tie(layer, theta) is theta
    return tf.constant(0)

  tiny_pipeline.run(build)


@pytest.mark.parametrize(
  ('reference', 'message'),
  [
    ('b.w', r"t uses the weights of 'b.w', but the layers are \['a', 't'\]"),
    ('a.v', r"t uses the weights 'a.v', but a has only \['w'\]"),
    ('a.w.x', r"t uses the weights 'a.w.x', but a has only \['w'\]"),
  ],
)
def test_weights_that_are_not_there(reference, message):
  def build():
    layer = _sequence(
      'net', *tiny_pipeline.linear('a'), _transposed('t', reference)
    ).Instantiate()
    tied_weights.tie(layer, layer.theta)

  with pytest.raises(ValueError, match=message):
    tiny_pipeline.run(build)
