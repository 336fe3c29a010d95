# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mistakes get errors that name the param, the value and the remedy."""

import declared
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import layers, py_utils
from tiny_pipeline import refused, two_layers

from lingvo_gpipe import schedules


class ReturnsMetrics(declared.Layer):
  PARAMS = {'metrics': None}

  def FProp(self, theta, outputs, targets):
    return self.params.metrics


class ToScalar(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return tf.reduce_sum(x)


class TwoOutputs(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return x, tf.cast(x, tf.int32)


_MEAN_SQUARE = tiny_pipeline.MeanSquare.Params().Set(name='loss')
_ZEROS = np.zeros([8, 3], np.float32)
_TO_SCALAR = [ToScalar.Params().Set(name='l')]
_TWO_OUTPUTS = [TwoOutputs.Params().Set(name='l0'), *tiny_pipeline.linear('l1')]
_PAIR = r'.*\(float32\[2, 3\], int32\[2, 3\]\)'


@pytest.mark.parametrize(
  ('params', 'inputs', 'message'),
  [
    (
      two_layers(num_micro_batches=3, micro_batch_size=2),
      [_ZEROS],
      'net: num_micro_batches is 3 and micro_batch_size is 2.* 8 makes 4',
    ),
    (
      two_layers(),
      [_ZEROS, _ZEROS[1:]],
      r'differ in dimension 0 \(batch_dim\).*\(8, 3\).*\(7, 3\)',
    ),
    (
      two_layers(),
      [np.float32(1)],
      r'inputs of shape \(\) has no dimension 0.*in shared_inputs',
    ),
    (
      tiny_pipeline.pipeline(_TO_SCALAR, 1),
      [_ZEROS],
      'net: outputs of the last cell does not have one value.*loss_tpl',
    ),
    # Cells that do not fit are both named with what crosses.
    (
      tiny_pipeline.pipeline(_TWO_OUTPUTS, 2),
      [_ZEROS],
      f"net: cell 'd1' cannot run on what cell 'd0' returns{_PAIR}",
    ),
    (
      tiny_pipeline.pipeline(_TWO_OUTPUTS, 1),
      [_ZEROS],
      "cell 'd0' cannot run on what the pipeline was given.*Layer "
      rf'net\.d0\.l1 \(Linear\) cannot take what comes before{_PAIR}',
    ),
  ],
)
def test_what_does_not_fit(params, inputs, message):
  with refused(message):
    tiny_pipeline.outputs(params, *inputs)


def _loss_of(metrics):
  return ReturnsMetrics.Params().Set(name='loss', metrics=metrics)


@pytest.mark.parametrize(
  ('loss', 'targets', 'message'),
  [
    (None, _ZEROS, r'net\.ComputeLoss needs loss_tpl'),
    (_MEAN_SQUARE, _ZEROS[1:], r'differ in dimension 0 \(batch_dim\)'),
    (
      _MEAN_SQUARE,
      {'x': _ZEROS},
      r'net: the loss, net\.loss \(MeanSquare\), cannot run on what cell '
      r"'d0' returns, float32\[2, 3\].*targets, \{x: float32\[2, 3\]\}",
    ),
    (
      _loss_of(3.0),
      _ZEROS,
      r'FProp of net\.loss \(ReturnsMetrics\) returned 3\.0; it must return',
    ),
    (_loss_of({'los': (1.0, 1.0)}), _ZEROS, r"\['los'\]; it must return met"),
    (_loss_of({'loss': 1.0}), _ZEROS, r"returned 1\.0 for 'loss'"),
    (_loss_of({'loss': ([1.0], 1.0)}), _ZEROS, r'\[1, 0\].* must be scalars'),
    (
      _loss_of({'loss': (1.0, 1.0), 'aux_loss': (1.0, 1.0)}),
      _ZEROS,
      "metric 'aux_loss', a name kept",
    ),
  ],
)
def test_losses_and_targets_that_do_not_fit(loss, targets, message):
  def build():
    net = tiny_pipeline.pipeline(tiny_pipeline.linear('l'), 1, loss_tpl=loss)
    layer = net.Instantiate()
    return layer.ComputeLoss(layer.theta, tf.constant(_ZEROS), targets).loss

  with refused(message):
    tiny_pipeline.run(build)


def test_a_batch_smaller_than_the_number_of_micro_batches_warns_and_works(
  caplog,
):
  def build():
    layer = two_layers(num_micro_batches=16).Instantiate()
    x = tf.constant(tiny_pipeline.inputs(3))
    pair = tiny_pipeline.beside_plain(lambda: layer.FProp(layer.theta, x))
    assert layer.schedule.num_micro_batches == 3
    return pair

  with caplog.at_level('WARNING'):
    tiny_pipeline.assert_close(*tiny_pipeline.run(build))
  assert (
    'net: num_micro_batches is 16, but the mini-batch has 3 examples'
    in caplog.text
  )


@pytest.mark.parametrize('num_micro_batches', [1, 2])
@pytest.mark.parametrize(
  ('inputs_shape', 'targets_shape', 'names'),
  [
    ([None, 3], [None, 3], 'targets and in inputs:'),
    ([8, 3], None, 'targets and in inputs:'),
    ([None, 3], [7, 3], 'inputs and in targets:'),
  ],
)
def test_targets_that_disagree_in_batch_size_when_a_step_runs(
  inputs_shape, targets_shape, names, num_micro_batches
):
  with pt.graph(1) as graph:
    x = tf.placeholder(tf.float32, inputs_shape)
    y = tf.placeholder(tf.float32, targets_shape)
    layer = tiny_pipeline.with_loss(
      tiny_pipeline.linear('l'), 1, num_micro_batches
    ).Instantiate()
    loss, _ = layer.ComputeLoss(layer.theta, x, y).loss
    with pt.session(1, graph) as sess:
      sess.run(tf.global_variables_initializer())
      right = {x: np.ones([8, 3]), y: np.ones([8, 3])}
      if targets_shape != [7, 3]:
        assert np.isfinite(sess.run(loss, right))
      with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=rf'net: the tensors differ .*\(batch_dim\); examples in {names}',
      ):
        sess.run(loss, right | {y: np.ones([7, 3])})


@pytest.mark.parametrize('theta', [None, _ZEROS])
def test_theta_that_is_forgotten(theta):
  with pt.graph(1):
    layer = two_layers().Instantiate()
    with refused('net: theta, the first argument', r'layer\.theta'):
      layer.FProp(theta, tf.zeros([8, 3]))


class TakesMap(tiny_pipeline.Linear):
  def FProp(self, theta, inputs):
    return super().FProp(theta, inputs.x)


def test_a_dict_where_a_layer_reads_a_nested_map():
  net = tiny_pipeline.pipeline([TakesMap.Params().Set(name='c')], 1)
  with pt.graph(1):
    layer = net.Instantiate()
    nest = py_utils.NestedMap(x=tf.zeros([8, 3]))
    assert layer.FPropDefaultTheta(nest).shape == (8, 3)
    with refused(r'\{x: float32\[2, 3\]\}', 'a dict is given', 'a NestedMap'):
      layer.FPropDefaultTheta(dict(nest))


class WithDropout(tiny_pipeline.Linear):
  PARAMS = {'dropout_tpl': layers.DropoutLayer.Params()}

  def __init__(self, params):
    super().__init__(params)
    self.CreateChild('dropout', self.params.dropout_tpl.Set(keep_prob=0.5))

  def FProp(self, theta, x):
    return super().FProp(theta, self.dropout.FProp(theta.dropout, x))


def _with_dropout(**kwargs):
  subs = [*tiny_pipeline.linear('l0'), WithDropout.Params().Set(name='l1')]
  return tiny_pipeline.pipeline(subs, **kwargs)


@pytest.mark.parametrize('recompute', ['always', 'except_last', 'never'])
def test_stateful_dropout_is_kept_where_it_would_be_recomputed(
  recompute, caplog
):
  def build():
    layer = _with_dropout(recompute=recompute).Instantiate()
    y = layer.FProp(layer.theta, tf.ones([8, 3]))
    # The bias-like gradient of y by l0's weight shows the mask once more.
    w1 = tiny_pipeline.subs_of(layer)['l1'].vars.w
    return y, tf.gradients(tf.reduce_sum(y), w1)[0]

  y, gradient = tiny_pipeline.run(build)
  assert np.isfinite(y).all()
  assert np.isfinite(gradient).all()
  told = 'net.d1.l1.params.dropout_tpl to lingvo.core.layers.Deterministic'
  assert (told in caplog.text) == (recompute != 'never')


def test_stateful_dropout_and_gradients_of_data():
  # The gradients of data come from extra tasks, which recompute.
  subs = [WithDropout.Params().Set(name='l')]
  with pt.graph(1):
    layer = tiny_pipeline.pipeline(subs, 1, recompute='never').Instantiate()
    x = tf.ones([8, 3])
    y = layer.FProp(layer.theta, x)
    with refused(
      'net: gradients of the inputs are asked for',
      r'layer net\.d0\.l \(WithDropout\)',
    ):
      tf.gradients(y, x)


def test_stateful_dropout_is_allowed_in_evaluation():
  y = tiny_pipeline.outputs(_with_dropout(), 1 + _ZEROS, do_eval=True)
  np.testing.assert_array_equal(y, y[:1].repeat(8, axis=0))


@pytest.mark.parametrize(
  ('schedule', 'words'),
  [
    ('zb_v', r"schedule is 'zb_v': .* two cells on each device: .*\[0, 1, 2\]"),
    ('file:/no.json', r"schedule is 'file:/no.json': /no.json: it cannot be"),
  ],
)
def test_a_schedule_that_the_pipeline_cannot_have_is_named(schedule, words):
  with pytest.raises(ValueError, match=words):
    pt.run_step(pt.pipeline_params(3, schedule=schedule), pt.data())


def test_a_layer_reads_the_file_of_its_schedule_once(tmp_path):
  path = tmp_path / 'mine.json'
  made = schedules.make_schedule('1f1b', (0, 1), 4)
  path.write_text(schedules.to_json(made))
  params = tiny_pipeline.with_loss(
    tiny_pipeline.linear('a', 'b'), schedule=f'file:{path}'
  )
  with pt.graph(2):
    net, other = (params.Copy().Set(name=n).Instantiate() for n in 'xy')
    x = tf.ones([8, tiny_pipeline.WIDTH])
    net.ComputeLoss(net.theta, x, x)
    changed = schedules.make_schedule('gpipe', (0, 1), 4)
    path.write_text(schedules.to_json(changed))
    first = net.schedule
    net.ComputeLoss(net.theta, x, x)
    other.ComputeLoss(other.theta, x, x)
  assert first.device_tasks == made.device_tasks
  assert net.schedule is first
  assert other.schedule.device_tasks == changed.device_tasks
