# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of one layer that others use: one variable, sent once."""

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tied_model
import tiny_pipeline
from example_model import inside
from lingvo.core import builder_layers

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import tied_weights
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)

_MODEL = tied_model.MODEL


@pytest.mark.parametrize('cut', [1, (1, 2, 4)])
def test_there_is_one_variable_of_the_same_name_for_every_cut(cut):
  with pt.cluster(4), tf.Graph().as_default():
    layer = _MODEL.pipeline(cut).Instantiate()
    assert layer.vars.Flatten() == tf.global_variables()
    names = [v.op.name for v in tf.global_variables()]
    assert names == ['net/embed/table/var', 'net/l0/w/var', 'net/l1/w/var']


def test_weights_are_cast_on_their_owners_device_and_gradients_summed():
  first, other = (
    _MODEL.step(cut, fprop_dtype=tf.bfloat16) for cut in (1, (2, 4))
  )
  pt.assert_identical(other, first)
  pt.assert_close(first, _MODEL.step(), tolerance=0.1)


def test_a_tied_weight_is_sent_once_a_step_to_each_device():
  with pt.graph(3) as graph:
    layer = _MODEL.pipeline((2, 4)).Instantiate()
    loss = inside(layer, _MODEL.batch()).loss[0]
    gradients = tf.gradients(loss, tf.trainable_variables())
    sent = pt.sent(graph, 3, gradients)
  owner, *users = map(tf.DeviceSpec.from_string, layer.cell_devices)
  forward = [
    there
    for here, there, size in sent
    if here == owner and size == tied_model.VOCAB * tiny_pipeline.WIDTH
  ]
  assert sorted(forward, key=str) == sorted(users, key=str)


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
