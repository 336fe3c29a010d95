# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import builder_layers, layers

import lingvo_gpipe
from lingvo_gpipe import schedules


def _projection(name):
  return layers.ProjectionLayer.Params().Set(
    name=name, input_dim=6, output_dim=6, batch_norm=False, activation='TANH'
  )


def _params(**kwargs):
  blocks = builder_layers.SequentialLayer.Params().Set(
    name='blocks', repeat=2, sub=[_projection('a'), _projection('b')]
  )
  return lingvo_gpipe.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=[_projection('first'), blocks],
    num_partitions=2,
    num_micro_batches=4,
    input_shapes='float32[2,6]',
    loss_tpl=tiny_pipeline.MeanSquare.Params(),
    **kwargs,
  )


def _kept(**kwargs):
  with pt.graph(2):
    return sorted(_params(**kwargs).Instantiate().kept_paths)


def test_layers_have_the_names_that_their_variables_have():
  assert _kept(recompute=['first', 'blocks/001/a', 'loss']) == [
    'net.cell_0.first',
    'net.cell_1.blocks.001.a',
    'net.loss',
  ]


def test_an_unknown_name_is_refused_with_those_there_are():
  with pytest.raises(ValueError, match=r"\['c'\].* are first, blocks/000/a, "):
    _kept(recompute=['c'])


@pytest.mark.parametrize('recompute', ['first', [3], None])
def test_what_is_no_policy_and_no_list_of_names_is_refused(recompute):
  with pytest.raises(ValueError, match=r'recompute is .*or a list'):
    _kept(recompute=recompute)


def test_fit_needs_costs_and_a_limit():
  with pt.graph(2), pytest.raises(ValueError, match='GPipeSequentialLayer'):
    pt.pipeline_params(2, recompute=schedules.FIT).Instantiate()
  with pytest.raises(ValueError, match='device_memory is not set'):
    _kept(recompute=schedules.FIT)


def test_fit_keeps_what_there_is_memory_for():
  least = _device_memory(recompute='always')
  most = _device_memory(recompute='never')
  limit = (least + most) // 2
  with pt.graph(2):
    net = _params(recompute=schedules.FIT, device_memory=limit).Instantiate()
  kept = net.plan.partition.spec.kept
  assert 0 < len(kept) < 5
  assert least < max(net.plan.partition.device_memory) <= limit
  assert f'except {len(kept)} kept layers' in net.table.to_text()
  # The other device has room.
  assert len(_kept(recompute=schedules.FIT, device_memory=least)) < 5
  # With the last layer the loss is kept, whose costs are that layer's.
  of_all = _kept(recompute=schedules.FIT, device_memory=2 * most)
  assert len(of_all) == 6
  assert 'net.loss' in of_all


def _device_memory(**kwargs):
  plan = lingvo_gpipe.GPipeSequentialLayer.Plan(
    _params(device_memory='1GiB', **kwargs), 2
  )
  return max(plan.partition.device_memory)


def test_inputs_have_gradients_whatever_is_kept():
  with pt.graph(2) as graph, pt.session(2, graph) as session:
    net = _params(recompute=['first', 'blocks/000/a']).Instantiate()
    x = tf.ones([8, 6])
    metrics = net.ComputeLoss(net.theta, x, tf.ones([8, 6]))
    [gradient] = tf.gradients(metrics.loss[0], x)
    session.run(tf.global_variables_initializer())
    assert session.run(gradient).any()
