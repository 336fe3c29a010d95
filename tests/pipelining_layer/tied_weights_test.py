# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of one layer that others use: one variable, sent once."""

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tied_model
import tiny_pipeline
from example_model import inside

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
