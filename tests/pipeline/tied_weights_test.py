# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tied weights in theta, for layers that run without a pipeline."""

import lingvo.compat as tf
import pipeline_testing as pt
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
    (lambda a, t: _sequence('net', _sequence('in', a), t), 'in/a.w'),
    (lambda a, t: _cell('net', _cell('in', a), _sequence('s', t)), 'in/a.w'),
  ],
)
def test_the_owners_weights_stand_in_the_users_theta(net, reference):
  [owner] = tiny_pipeline.linear('a')

  def build():
    x = tf.constant(tiny_pipeline.inputs())
    layer = net(owner, _transposed('t', reference)).Instantiate()
    [w] = tf.trainable_variables()
    y = layer.FProp(tied_weights.tie(layer, layer.theta), x)
    expected = tf.matmul(x + tf.matmul(x, w), w, transpose_b=True)
    return (y, tf.gradients(y, w)), (expected, tf.gradients(expected, w))

  tiny_pipeline.assert_close(*tiny_pipeline.run(build))


def test_a_repetition_is_an_owner_of_its_own():
  repeated = _sequence('in', *tiny_pipeline.linear('a'), repeat=2)
  net = _sequence('net', repeated, _transposed('t', 'in/001/a.w'))
  with pt.graph(1):
    layer = net.Instantiate()
    theta = tied_weights.tie(layer, layer.theta)
    assert theta.t.w is layer.theta['in'].rep[1].a.w


@pytest.mark.parametrize(
  ('reference', 'message'),
  [
    ('b.w', r"t uses the weights of 'b.w', but the layers are \['a', 't'\]"),
    ('a.w.x', r"t uses the weights 'a.w.x', but a has only \['w'\]"),
  ],
)
def test_weights_that_are_not_there(reference, message):
  subs = [*tiny_pipeline.linear('a'), _transposed('t', reference)]
  with pt.graph(1):
    layer = _sequence('net', *subs).Instantiate()
    with pytest.raises(ValueError, match=message):
      tied_weights.tie(layer, layer.theta)
