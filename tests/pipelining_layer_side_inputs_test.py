# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Side inputs reach the cells that take them, cut as the inputs are."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
import unet
from lingvo.core import py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values

BATCH = 7


class _Masked(named_layers.NamedValueLayer):
  """Adds x w, masked, and a row of a table if ids are given."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w',
      py_utils.WeightParams(
        [tiny_pipeline.WIDTH] * 2, py_utils.WeightInit.Gaussian(0.5)
      ),
    )

  def FProp(self, theta, x):
    segments = self.Take('segments')
    x += tf.matmul(x, theta.w) * segments.mask
    if segments.ids is not None:
      x += tf.gather(theta.w, segments.ids)
    return x


class _Loss(named_layers.NamedValueLayer):
  """The mean square error, weighted by a side input."""

  def FProp(self, theta, outputs, targets):
    weights = self.Take('weights')
    total = tf.reduce_sum(weights)
    error = tf.reduce_sum(tf.square(outputs - targets), axis=-1)
    loss = tf.math.divide_no_nan(tf.reduce_sum(error * weights), total)
    return {'loss': (loss, total)}


def _params(cuts=(), **kwargs):
  a, b, c = tiny_pipeline.linear(*'abc')
  masked = _Masked.Params().Set(takes=['segments'])
  subs = [a, masked.Copy().Set(name='m0'), b, masked.Copy().Set(name='m1'), c]
  loss = _Loss.Params().Set(name='loss', takes=['weights'])
  names = ['segments', 'weights']
  return unet.pipeline(subs, cuts, side_inputs=names, **kwargs).Set(
    loss_tpl=loss
  )


def _side_inputs(with_ids=True):
  rng = np.random.RandomState(5)
  ids = tf.constant(rng.randint(3, size=BATCH)) if with_ids else None
  mask = tf.constant(rng.randint(2, size=[BATCH, 1]), tf.float32)
  return {
    'segments': py_utils.NestedMap(mask=mask, ids=ids),
    'weights': tf.constant(rng.rand(BATCH), tf.float32),
  }


def _compute_loss(layer, **kwargs):
  x = tf.constant(tiny_pipeline.inputs(BATCH))
  return layer.ComputeLoss(
    layer.theta, x, tf.zeros_like(x), side_inputs=_side_inputs(**kwargs)
  )


def _unpipelined(layer):
  x = tf.constant(tiny_pipeline.inputs(BATCH))
  with named_values.scope(_side_inputs()):
    y = tiny_pipeline.unpipelined(layer, x)
    return layer.loss.FProp(layer.theta.loss, y, tf.zeros_like(x))


def test_side_inputs_reach_middle_cells_and_the_loss():
  results = [
    pt.run_step(_params(cuts, schedule='1f1b'), None, compute=_compute_loss)
    for cuts in ((), (1, 2, 4), (2, 4))
  ]
  plain = pt.run_step(_params(), None, compute=_unpipelined)
  pt.assert_close(results[0], plain, tolerance=1e-6)
  for got in results[1:]:
    pt.assert_identical(got, results[0])


def test_none_is_a_value():
  compute = functools.partial(_compute_loss, with_ids=False)
  results = [
    pt.run_step(_params(cuts), None, compute=compute) for cuts in ((), (1, 2))
  ]
  pt.assert_identical(*results)


def test_the_loss_outside_and_evaluation():
  def compute(layer):
    x = tf.constant(tiny_pipeline.inputs(BATCH))
    sides = _side_inputs()
    y = layer.FProp(layer.theta, x, side_inputs=sides)
    with named_values.scope(sides):
      return layer.loss.FProp(layer.theta.loss, y, tf.zeros_like(x))

  plain = pt.run_step(_params(), None, compute=_unpipelined)
  pt.assert_close(
    pt.run_step(_params((1, 2)), None, compute=compute), plain, 1e-6
  )
  evaluated = pt.run_step(
    _params((1, 2)), None, compute=_compute_loss, do_eval=True
  )
  np.testing.assert_allclose(
    evaluated.metrics['loss'], plain.metrics['loss'], rtol=1e-6
  )


def test_a_side_input_is_sent_once_to_each_device_and_not_relayed():
  params = _params((1, 2, 3, 4), num_micro_batches=3, recompute='always')
  with pt.cluster(5), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    loss = _compute_loss(layer).loss[0]
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


def _from_trained_weights():
  """A layer in front, and side inputs and targets that depend on it."""
  [front] = tiny_pipeline.linear('front')
  front = front.Instantiate()
  hidden = front.FPropDefaultTheta(tf.constant(tiny_pipeline.inputs(BATCH, 3)))
  sides = _side_inputs()
  sides['segments'].mask *= tf.sigmoid(hidden[:, :1])
  return sides, tf.tanh(hidden)


def _loss_of_computed(layer, *, loss_inside=True):
  sides, targets = _from_trained_weights()
  x = tf.constant(tiny_pipeline.inputs(BATCH))
  if loss_inside:
    return layer.ComputeLoss(layer.theta, x, targets, side_inputs=sides)
  y = layer.FProp(layer.theta, x, side_inputs=sides)
  with named_values.scope(sides):
    return layer.loss.FProp(layer.theta.loss, y, targets)


def _plain_of_computed(layer):
  sides, targets = _from_trained_weights()
  with named_values.scope(sides):
    y = tiny_pipeline.unpipelined(
      layer, tf.constant(tiny_pipeline.inputs(BATCH))
    )
    return layer.loss.FProp(layer.theta.loss, y, targets)


def test_side_inputs_and_targets_from_trained_weights_have_gradients():
  plain = pt.run_step(_params(), None, compute=_plain_of_computed)
  results = [
    pt.run_step(
      _params(cuts, schedule=schedule, recompute=recompute),
      None,
      compute=_loss_of_computed,
    )
    for cuts, schedule, recompute in (
      ((), 'gpipe', 'always'),
      ((1, 2, 4), '1f1b', 'always'),
      ((2, 4), '1f1b', 'never'),
      ((1,), 'gpipe', 'never'),
    )
  ]
  assert np.linalg.norm(plain.gradients['front/w/var:0']) > 0.1
  pt.assert_close(results[0], plain, tolerance=1e-5)
  for got in results[1:]:
    pt.assert_identical(got, results[0])


@pytest.mark.parametrize('cuts', [(), (1, 2)])
def test_so_have_they_with_the_loss_outside(cuts):
  plain = pt.run_step(_params(), None, compute=_plain_of_computed)
  compute = functools.partial(_loss_of_computed, loss_inside=False)
  got = pt.run_step(_params(cuts), None, compute=compute)
  pt.assert_close(got, plain, tolerance=1e-5)


@pytest.mark.parametrize(
  ('name', 'what'), [('weights', "side input 'weights'"), (None, 'the targets')]
)
def test_a_gradient_of_data_is_refused_with_its_name(name, what):
  def build():
    layer = _params((1, 2)).Instantiate()
    sides = _side_inputs()
    x = tf.constant(tiny_pipeline.inputs(BATCH))
    targets = tf.zeros_like(x)
    loss = layer.ComputeLoss(layer.theta, x, targets, side_inputs=sides).loss[0]
    return tf.gradients(loss, sides[name] if name else targets)

  with pytest.raises(ValueError, match=f'a gradient of {what} is asked for'):
    tiny_pipeline.run(build, num_devices=3)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (None, r"given side_inputs \[\], but net.side_inputs names \['segments'"),
    ({'weights': None, 'mask': None}, r"given side_inputs \['mask', 'weights"),
  ],
)
def test_names_must_be_those_of_params(given, message):
  def compute(layer):
    x = tf.constant(tiny_pipeline.inputs(BATCH))
    return layer.ComputeLoss(layer.theta, x, x, side_inputs=given)

  with pytest.raises(ValueError, match=message):
    pt.run_step(_params(), None, compute=compute)


def test_sizes_must_agree_with_the_inputs():
  def compute(layer):
    x = tf.constant(tiny_pipeline.inputs(BATCH))
    sides = {**_side_inputs(), 'weights': tf.zeros([BATCH + 1])}
    return layer.ComputeLoss(layer.theta, x, x, side_inputs=sides)

  with pytest.raises(ValueError, match=r'differ in dimension 0 \(batch_dim\)'):
    pt.run_step(_params(), None, compute=compute)


def test_wiring_errors_come_when_the_layer_is_built():
  params = _params().Set(side_inputs=['segments'])
  with pytest.raises(ValueError, match="loss takes 'weights', which no layer"):
    tiny_pipeline.run(params.Instantiate)
