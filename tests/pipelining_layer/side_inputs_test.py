# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Side inputs reach the cells that take them, split as the inputs are."""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_model import inside
from example_models import BATCH, MODELS

_MODEL = MODELS['side inputs']


def test_a_side_input_is_sent_once_to_each_device_and_not_relayed():
  with pt.graph(5) as graph:
    layer = _MODEL.pipeline((1, 2, 3, 4)).Instantiate()
    loss = inside(layer, _MODEL.batch()).loss[0]
    tf.gradients(loss, tf.trainable_variables())
    devices = layer.cell_devices
    is_mask = tf.TensorShape([BATCH, 1])
    splits = [
      op
      for op in graph.get_operations()
      if op.type == 'SplitV' and op.inputs[0].shape == is_mask
    ]
    # On the devices of m0 and m1, for their own cells' calls alone.
    assert [op.device for op in splits] == [devices[1], devices[3]]
    for op in splits:
      users = {
        user.device
        for part in op.outputs
        for barrier in part.consumers()
        for user in barrier.outputs[0].consumers()
      }
      assert users == {op.device}


@pytest.mark.parametrize(
  ('name', 'what'), [('weights', "side input 'weights'"), (None, 'the targets')]
)
def test_a_gradient_of_data_is_refused_with_its_name(name, what):
  with pt.graph(3):
    batch = _MODEL.batch()
    loss = inside(_MODEL.pipeline((1, 2)).Instantiate(), batch).loss[0]
    data = batch.side_inputs[name] if name else batch.targets
    with pytest.raises(ValueError, match=f'a gradient of {what} is asked for'):
      tf.gradients(loss, data)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (None, r"given side_inputs \[\], but net.side_inputs names \['segments'"),
    ({'weights': None, 'mask': None}, r"given side_inputs \['mask', 'weights"),
    (3, r'net is given side_inputs a int, but net.side_inputs names'),
    (
      {'segments': None, 'weights': np.zeros(BATCH + 1, np.float32)},
      r'differ in dimension 0 \(batch_dim\)',
    ),
  ],
)
def test_side_inputs_that_do_not_fit(given, message):
  with pt.graph(1):
    layer = _MODEL.pipeline().Instantiate()
    x = tf.constant(tiny_pipeline.inputs(BATCH))
    with pytest.raises(ValueError, match=message):
      layer.ComputeLoss(layer.theta, x, x, side_inputs=given)


def test_wiring_errors_come_when_the_layer_is_built():
  params = _MODEL.pipeline(side_inputs=['segments'])
  message = "loss takes 'weights', which no layer"
  with pt.graph(1), pytest.raises(ValueError, match=message):
    params.Instantiate()
