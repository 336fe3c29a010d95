# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training by Lingvo's learner, however the model is cut."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_models import table_batch, table_model
from lingvo.core import builder_layers, optimizer, py_utils

from lingvo_gpipe import sequential_layer

# Sorted by name, neither the layers nor the cells are in their order.
_LAYERS = ('l1', 'l10', 'l2', 'b', 'l11', 'a', 'l3', 'l20')
_CELLS = ('cell9', 'cell10', 'cell1', 'cell11')
_INNER = ('l2', 'l10', 'l1')
_TABLE = table_model()


def _linear_layers(num_cells=2, **kwargs):
  params = tiny_pipeline.with_loss(
    tiny_pipeline.linear(*_LAYERS), num_cells, **kwargs
  )
  for cell, name in zip(params.cell_tpl, _CELLS, strict=False):
    cell.name = name
  return params


def _build(task_params):
  py_utils.GetOrCreateGlobalStepVar()
  if task_params.net.cell_tpl[0].sub[0].name != 'emb':
    return tiny_pipeline.build_task(task_params)
  batch = table_batch()
  return tiny_pipeline.build_task(task_params, batch.inputs, batch.targets)


@functools.cache
def _trained(net, num_cells=1, schedule='gpipe', recompute='always'):
  """All variables after three steps, clipped by the global norm."""
  params = net(num_cells, schedule=schedule, recompute=recompute)
  with pt.cluster(num_cells), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    task = _build(
      tiny_pipeline.task_params(
        params,
        optimizer=optimizer.Adagrad.Params(),
        clip_gradient_norm_to_value=0.05,
      )
    )
    with pt.session(num_cells, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for _ in range(3):
        sess.run(task.train_op)
      return sess.run({v.op.name: v for v in tf.global_variables()})


@pytest.mark.parametrize('net', [_linear_layers, _TABLE.pipeline])
@pytest.mark.parametrize(
  ('num_cells', 'schedule', 'recompute'),
  [(2, '1f1b', 'always'), (4, '1f1b', 'except_last'), (4, 'gpipe', 'never')],
)
def test_trained_weights_have_the_same_bits(
  net, num_cells, schedule, recompute
):
  got, expected = _trained(net, num_cells, schedule, recompute), _trained(net)
  assert got.keys() == expected.keys()
  for name, value in got.items():
    np.testing.assert_array_equal(value, expected[name], err_msg=name)


def _reads_of_table(task):
  table = task.vars.net.d0.emb.table
  step = tf.compat.v1.graph_util.extract_sub_graph(
    table.handle.graph.as_graph_def(), [task.train_op.name]
  )
  return [
    node.name
    for node in step.node
    if node.op == 'ReadVariableOp' and node.input[0] == table.handle.op.name
  ]


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_training_step_does_not_read_a_table_as_a_whole(recompute):
  with pt.cluster(2), tf.Graph().as_default():
    net = _TABLE.pipeline(2, recompute=recompute)
    assert not _reads_of_table(_build(tiny_pipeline.task_params(net)))


def test_with_several_learners_all_see_the_table_as_it_was():
  params = tiny_pipeline.task_params(_TABLE.pipeline(2))
  first = params.train.learner
  params.train.learner = [
    first.Copy().Set(name='loss', bprop_variable_filter='emb'),
    first.Copy().Set(name='more', loss_name='loss', bprop_variable_filter='/a'),
  ]
  with pt.cluster(2), tf.Graph().as_default():
    assert len(_reads_of_table(_build(params))) == 1


def test_variables_are_in_the_order_of_the_layers_wherever_containers_are_cut():
  block = builder_layers.SequentialLayer.Params().Set(
    name='block', repeat=2, sub=tiny_pipeline.linear(*_INNER)
  )
  params = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net', sub=[*tiny_pipeline.linear('z'), block]
  )
  names = [f'net/block/{i:03d}/{n}/w/var' for i in (0, 1) for n in _INNER]
  for splits in ([4], [2, 5]):
    num_cells = len(splits) + 1
    with pt.cluster(num_cells), tf.Graph().as_default():
      variables = params.Copy().Set(splits=splits).Instantiate().vars.Flatten()
    assert [v.op.name for v in variables] == ['net/z/w/var', *names]
