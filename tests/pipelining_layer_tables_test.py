# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of which a cell gathers rows: never read as a whole, nor copied."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_layer, optimizer, py_utils

_ROWS, _BATCH, _STEPS = 50, 7, 3
_IDS = np.random.RandomState(0).randint(_ROWS, size=(_BATCH, 2))


class Table(base_layer.BaseLayer):
  """Looks up ids, [batch, 2], in a table, twice."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dense_too', False, 'Whether to multiply by the table as well.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'table',
      py_utils.WeightParams(
        [_ROWS, tiny_pipeline.WIDTH], py_utils.WeightInit.Gaussian()
      ),
    )

  def FProp(self, theta, ids):
    x = tf.reduce_sum(tf.nn.embedding_lookup(theta.table, ids), axis=1)
    x += tf.gather(self.vars.table, ids[:, 0])
    if self.params.dense_too:
      x += tf.matmul(tf.one_hot(ids[:, 1], _ROWS), theta.table)
    return x


def _params(num_cells=2, dense_too=False, **kwargs):
  table = Table.Params().Set(name='emb', dense_too=dense_too)
  subs = [table, *tiny_pipeline.linear('a', 'b', 'c')]
  return tiny_pipeline.with_loss(subs, num_cells, **kwargs)


def _build(params, **learning):
  learning.setdefault('optimizer', optimizer.Adagrad.Params())
  task = tiny_pipeline.task_params(params, **learning).Instantiate()
  return _with_training(task)


def _with_training(task):
  y = tf.constant(tiny_pipeline.inputs(_BATCH))
  task.FPropDefaultTheta(py_utils.NestedMap(x=tf.constant(_IDS), y=y))
  task.BProp()
  return task


def _reads(task):
  """Ops of a training step that read the table as a whole."""
  table = task.vars.net.d0.emb.table
  graph = table.handle.graph
  step = tf.compat.v1.graph_util.extract_sub_graph(
    graph.as_graph_def(), [task.train_op.name]
  )
  return [
    node.name
    for node in step.node
    if node.op == 'ReadVariableOp' and node.input[0] == table.handle.op.name
  ]


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_training_step_does_not_read_the_table(recompute):
  with pt.cluster(2), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    assert not _reads(_build(_params(recompute=recompute)))


def _trained(params, num_devices):
  with pt.cluster(num_devices), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    py_utils.GetOrCreateGlobalStepVar()
    task = _build(params, clip_gradient_norm_to_value=0.5)
    with pt.session(num_devices, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for _ in range(_STEPS):
        sess.run(task.train_op)
      return sess.run({v.op.name: v for v in tf.global_variables()})


@functools.cache
def _reference():
  return _trained(_params(1), 1)


@pytest.mark.parametrize(
  ('num_cells', 'schedule', 'recompute'),
  [(1, 'gpipe', 'never'), (2, '1f1b', 'always'), (4, '1f1b', 'except_last')],
)
def test_training_has_the_same_bits_for_every_cut_schedule_and_policy(
  num_cells, schedule, recompute
):
  params = _params(num_cells, schedule=schedule, recompute=recompute)
  got = _trained(params, num_cells)
  assert got.keys() == _reference().keys()
  for name, value in got.items():
    np.testing.assert_array_equal(value, _reference()[name], err_msg=name)


@pytest.mark.parametrize('dense_too', [False, True])
def test_gradients_are_those_of_the_plain_model(dense_too):
  def build():
    layer = _params(dense_too=dense_too).Instantiate()
    ids, y = tf.constant(_IDS), tf.constant(tiny_pipeline.inputs(_BATCH))
    plain = tiny_pipeline.unpipelined(layer, ids)
    losses = (
      layer.ComputeLoss(layer.theta, ids, y).loss[0],
      layer.loss.FProp(layer.theta.loss, plain, y)['loss'][0],
    )
    found = [tf.gradients(loss, layer.vars.Flatten()) for loss in losses]
    assert isinstance(found[0][0], tf.IndexedSlices) == (not dense_too)
    return [[tf.convert_to_tensor(g) for g in gradients] for gradients in found]

  for got, plain in zip(*tiny_pipeline.run(build, num_devices=2), strict=True):
    np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-6)


def test_with_several_learners_all_see_the_table_as_it_was():
  params = tiny_pipeline.task_params(_params())
  first = params.train.learner
  params.train.learner = [
    first.Copy().Set(name='loss', bprop_variable_filter='emb'),
    first.Copy().Set(name='more', loss_name='loss', bprop_variable_filter='/a'),
  ]
  with pt.cluster(2), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    assert len(_reads(_with_training(params.Instantiate()))) == 1


class ReadsOutside(tiny_pipeline.Linear):
  """Multiplies by a variable that belongs to no layer."""

  def FProp(self, theta, x):
    return super().FProp(theta, x) * self.outside.read_value()


def test_a_variable_of_no_layer_has_a_gradient():
  params = tiny_pipeline.pipeline([ReadsOutside.Params().Set(name='l')], 1)

  def build():
    layer = params.Instantiate()
    outside = tf.get_variable(
      'outside', [tiny_pipeline.WIDTH], use_resource=True
    )
    tiny_pipeline.subs_of(layer)['l'].outside = outside
    x = tf.constant(tiny_pipeline.inputs())
    outputs = (layer.FProp(layer.theta, x), tiny_pipeline.unpipelined(layer, x))
    return [tf.gradients(tf.reduce_sum(y * y), outside)[0] for y in outputs]

  got, plain = tiny_pipeline.run(build)
  np.testing.assert_allclose(got, plain, rtol=1e-4)
