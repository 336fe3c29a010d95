# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all examples share reaches every micro-batch whole."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import shared_model
import tiny_pipeline
from lingvo.core import base_layer, py_utils


def _assert_like_plain(got, **kwargs):
  plain = shared_model.step(shared_model.compute_plain, **kwargs)
  pt.assert_close(got, plain)
  for name, pair in got.metrics.items():
    for value, expected in zip(pair, plain.metrics[name], strict=True):
      np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('num_micro_batches', [1, 2, 3, 4])
@pytest.mark.parametrize(
  'compute', [shared_model.compute_loss, shared_model.compute_outside]
)
def test_numbers_are_those_of_the_plain_model(compute, num_micro_batches):
  _assert_like_plain(
    shared_model.step(compute, num_micro_batches=num_micro_batches)
  )


@pytest.mark.parametrize(
  'compute', [shared_model.compute_loss, shared_model.compute_outside]
)
def test_evaluation_gives_the_numbers_of_the_plain_model(compute):
  _assert_like_plain(shared_model.step(compute, do_eval=True), do_eval=True)


def test_no_bit_depends_on_the_cut_or_the_schedule():
  first = shared_model.step(shared_model.compute_loss, num_cells=1)
  for num_cells, schedule in ((2, 'gpipe'), (3, '1f1b')):
    pt.assert_identical(
      shared_model.step(
        shared_model.compute_loss, num_cells=num_cells, schedule=schedule
      ),
      first,
    )


@pytest.mark.parametrize('num_micro_batches', [1, 3, 4])
def test_a_shared_side_input_from_trained_weights_has_a_gradient(
  num_micro_batches,
):
  def step(compute, **kwargs):
    compute = functools.partial(compute, trained=True)
    return shared_model.step(compute, **kwargs)

  plain = step(shared_model.compute_plain)
  assert np.linalg.norm(plain.gradients['front/b/var:0']) > 1e-3
  first, *others = [
    step(
      shared_model.compute_loss,
      num_cells=num_cells,
      num_micro_batches=num_micro_batches,
      schedule=schedule,
    )
    for num_cells, schedule in ((1, 'gpipe'), (2, '1f1b'), (3, 'gpipe'))
  ]
  outside = step(
    shared_model.compute_outside, num_micro_batches=num_micro_batches
  )
  pt.assert_close(first, plain)
  pt.assert_close(outside, plain)
  for got in others:
    pt.assert_identical(got, first)


def _refused(*messages):
  return pytest.raises(ValueError, match='(?s)' + '.*'.join(messages))


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
  with _refused(message):
    shared_model.step(
      shared_model.compute_loss,
      num_micro_batches=num_micro_batches,
      shared_inputs=names,
    )


def test_names_that_are_none_of_the_inputs():
  with _refused(r"net\.shared_inputs has 'mask'", "'side_inputs.mask'"):
    shared_model.step(shared_model.compute_loss, shared_inputs=['mask'])
  with _refused("shared_inputs names 'inputs.mask'", r"'inputs\[0\]'"):
    shared_model.step(
      shared_model.compute_loss,
      shared_inputs=[*shared_model.SHARED, 'inputs.mask'],
    )


class _MaskedSum(base_layer.BaseLayer):
  """x w, summed over places as a mask says."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w', py_utils.WeightParams([3, 3], py_utils.WeightInit.Gaussian(0.5))
    )

  def FProp(self, theta, x, mask):
    x = tf.einsum('btd,de->bte', x, theta.w)
    return tf.reduce_sum(x * mask[:, tf.newaxis], axis=1)


def test_a_position_mask_broadcast_in_micro_batches_of_one_is_found():
  params = tiny_pipeline.pipeline([_MaskedSum.Params().Set(name='l')], 1, 4)

  def build(**kwargs):
    layer = params.Copy().Set(**kwargs).Instantiate()
    x = tf.random.stateless_normal([4, 4, 3], [1, 2])
    args = x, tf.constant([0.0, 1.0, 2.0, 3.0])
    return layer.FProp(layer.theta, *args), tiny_pipeline.unpipelined(
      layer, *args
    )

  with _refused(
    r'net: inputs\[1\] is split', r"set shared_inputs to \['inputs\[1\]'\]"
  ):
    tiny_pipeline.run(build)
  got, plain = tiny_pipeline.run(lambda: build(shared_inputs=['inputs[1]']))
  np.testing.assert_allclose(got, plain, rtol=1e-5)


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
