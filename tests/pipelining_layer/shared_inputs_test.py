# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all examples share reaches every micro-batch whole."""

import declared
import lingvo.compat as tf
import numpy as np
import pytest
import shared_model
import tiny_pipeline
from lingvo.core import base_layer, py_utils
from tiny_pipeline import refused

_MODEL = shared_model.MODEL


@pytest.mark.parametrize(
  ('forgotten', 'message'),
  [
    ('inputs[1]', r'differ in dimension 0.*inputs\[1\] of shape \(1, 4\)'),
    ('side_inputs.temperature', r'side_inputs\.temperature of shape \(\) has'),
    ('side_inputs.causal', r"shared_inputs to \['side_inputs\.causal'\]"),
  ],
)
@pytest.mark.parametrize('num_micro_batches', [2, 4])
def test_what_is_shared_and_not_named_so_is_found(
  forgotten, message, num_micro_batches
):
  names = [name for name in shared_model.SHARED if name != forgotten]
  with refused(message):
    _MODEL.step(num_micro_batches=num_micro_batches, shared_inputs=names)


def test_names_that_are_none_of_the_inputs():
  with refused(r"net\.shared_inputs has 'mask'", "'side_inputs.mask'"):
    _MODEL.step(shared_inputs=['mask'])
  with refused("shared_inputs names 'inputs.mask'", r"'inputs\[0\]'"):
    _MODEL.step(shared_inputs=[*shared_model.SHARED, 'inputs.mask'])


class _MaskedSum(declared.Layer):
  WEIGHTS = {'w': [3, 3]}

  def FProp(self, theta, x, mask):
    x = tf.einsum('btd,de->bte', x, theta.w)
    return tf.reduce_sum(x * mask[:, tf.newaxis], axis=1)


def test_a_position_mask_broadcast_in_micro_batches_of_one_is_found():
  params = tiny_pipeline.pipeline([_MaskedSum.Params().Set(name='l')], 1, 4)

  def build(**kwargs):
    layer = params.Copy().Set(**kwargs).Instantiate()
    x = tf.random.stateless_normal([4, 4, 3], [1, 2])
    mask = tf.constant([0.0, 1.0, 2.0, 3.0])
    return tiny_pipeline.beside_plain(lambda: layer.FProp(layer.theta, x, mask))

  with refused(
    r'net: inputs\[1\] is split', r"set shared_inputs to \['inputs\[1\]'\]"
  ):
    tiny_pipeline.run(build)
  tiny_pipeline.assert_close(
    *tiny_pipeline.run(lambda: build(shared_inputs=['inputs[1]']))
  )


def test_a_name_stands_for_the_nest_below_it():
  class Scale(base_layer.BaseLayer):
    def FProp(self, theta, x):
      del theta
      scales = x.Pack(x.Flatten())
      scales.x *= x.scales.a * x.scales.b[0]
      return scales

  params = tiny_pipeline.pipeline(
    [Scale.Params().Set(name='l')],
    1,
    nested_map_fprop=True,
    shared_inputs=['inputs.scales'],
  )

  def build():
    layer = params.Instantiate()
    scales = py_utils.NestedMap(a=tf.constant(2.0), b=[tf.constant([[3.0]])])
    x = py_utils.NestedMap(x=tf.ones([8, 1]), scales=scales)
    return layer.FProp(layer.theta, x)

  got = tiny_pipeline.run(build)
  np.testing.assert_array_equal(got.x, np.full([8, 1], 6.0))
  np.testing.assert_array_equal(got.scales.b[0], [[3.0]])
