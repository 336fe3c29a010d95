# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import types

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline as tiny
from lingvo.core import base_layer, hyperparams, py_utils

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.training import model_pipelines, user_error


def _params(**values):
  p = hyperparams.Params()
  for name, value in values.items():
    p.Define(name, value, '')
  return p


def test_the_outermost_is_found_and_all_of_a_name_are_set():
  model = _params(
    net=_params(m=4),
    others=[_params(m=2, schedule='gpipe'), _params()],
    eval={'deep': (_params(m=1),)},
  )
  assert model_pipelines.find(model, 'm') == 4
  assert model_pipelines.find(model, 'schedule') == 'gpipe'
  assert model_pipelines.find(model, 'absent') is None
  model_pipelines.set_all(model, 'm', 8, 'micro_batches')
  found = [model.net, model.others[0], model.eval['deep'][0]]
  assert [p.m for p in found] == [8, 8, 8]
  with pytest.raises(
    user_error.UserError, match=r'--re=always.*no Param absent'
  ):
    model_pipelines.set_all(model, 'absent', 'always', 're')


class _MeanByOne(base_layer.BaseLayer):
  def FProp(self, theta, outputs, targets):
    return {'loss': (tf.reduce_mean(tf.square(outputs - targets)), 1.0)}


def _report(loss):
  def build():
    net = tiny.pipeline(
      tiny.linear('a', 'b'),
      num_micro_batches=3,
      loss_tpl=loss.Params().Set(name='loss'),
    ).Instantiate()
    x = tf.constant(tiny.inputs())
    net.ComputeLoss(net.theta, x, tf.zeros_like(x))
    report = model_pipelines.PipelineReport()
    report.trainer_built(types.SimpleNamespace(model=net))
    return x

  tiny.run(build, num_devices=2)


def test_the_cut_and_the_schedule_are_printed(capsys, warnings):
  _report(tiny.MeanSquare)
  printed = capsys.readouterr().out
  assert printed.startswith('Pipeline net:')
  assert 'device:CPU:0\nd1  /' in printed
  assert 'cells 2, devices 2, micro-batches 3' in printed
  assert 'device 1  .' in printed
  assert warnings.getvalue() == ''


def test_a_loss_whose_weight_is_a_constant_is_told_in_one_line(warnings):
  _report(_MeanByOne)
  warned = warnings.getvalue()
  assert warned.count('\n') == 1
  assert warned.startswith('Warning: net: the weight of the loss is the const')


@pytest.mark.parametrize('sequential', [False, True])
def test_fewer_micro_batches_than_asked_for_are_told(sequential):
  subs = tiny.linear('l0', 'l1')
  net = tiny.pipeline(subs, num_micro_batches=9)
  if sequential:
    net = sequential_layer.GPipeSequentialLayer.Params().Set(
      name='net', sub=subs, num_partitions=2, num_micro_batches=9
    )
  told = (
    'num_micro_batches (--micro_batches) is 9, but the mini-batch has 8 '
    'examples: M = 8, with one example each.'
  )
  with pt.cluster(2), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    layer = net.Instantiate()
    assert model_pipelines.num_micro_batches(layer) is None
    for batch in (8, 9, 10):
      layer.FPropDefaultTheta(tf.zeros([batch, 3]))
      assert model_pipelines.num_micro_batches(layer) == min(batch, 9)
      assert (told in model_pipelines.cut_text(layer)) == (batch == 8)
