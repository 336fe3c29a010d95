# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is not trained is not differentiated, however the model is cut."""

import re

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_layer, layers, optimizer, py_utils

from lingvo_gpipe import named_layers

_NAMES = ('a', 'b', 'c', 'd')
_M = 4


class Adapted(base_layer.BaseLayer):
  """x w + x a b + x, with a matrix w, and a and b of rank 1."""

  def __init__(self, params):
    super().__init__(params)
    width = tiny_pipeline.WIDTH
    for name, shape in (
      ('w', [width, width]),
      ('adapter_a', [width, 1]),
      ('adapter_b', [1, width]),
    ):
      self.CreateVariable(
        name, py_utils.WeightParams(shape, py_utils.WeightInit.Gaussian(0.5))
      )

  def FProp(self, theta, x):
    low = tf.matmul(tf.matmul(x, theta.adapter_a), theta.adapter_b)
    return x + tf.matmul(x, theta.w) + low


class PlainTask(tiny_pipeline.Task):
  """The same without a pipeline."""

  def ComputeLoss(self, theta, predictions, input_batch):
    outputs = tiny_pipeline.unpipelined(self.net, input_batch.x)
    return self.net.loss.FProp(theta.net.loss, outputs, input_batch.y), {}


def _task(
  subs,
  num_cells,
  learner=None,
  cls=tiny_pipeline.Task,
  **kwargs,
):
  """Params of a task; `learner` is its filter of variables."""
  net = tiny_pipeline.with_loss(subs, num_cells, _M, **kwargs)
  p = tiny_pipeline.task_params(net)
  p.train.learner.Set(
    bprop_variable_filter=learner, optimizer=optimizer.SGD.Params()
  )
  p.cls = cls
  return p


def _build(p, before_bprop=lambda task: None):
  py_utils.GetOrCreateGlobalStepVar()
  task = p.Instantiate()
  x = tf.constant(tiny_pipeline.inputs(8))
  task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=tf.zeros_like(x)))
  before_bprop(task)
  task.BProp()
  return task


def _step(p, num_devices):
  """Runs a step: values before and after, and how many products it takes."""
  with pt.cluster(num_devices), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    task = _build(p)
    variables = {v.name: v for v in task.net.vars.Flatten()}
    metadata = tf.tf1.RunMetadata()
    with pt.session(num_devices, graph) as sess:
      sess.run(tf.global_variables_initializer())
      before = sess.run(variables)
      options = tf.tf1.RunOptions(trace_level=tf.tf1.RunOptions.FULL_TRACE)
      sess.run(task.train_op, options=options, run_metadata=metadata)
      after = sess.run(variables)
  products = {
    (node.node_name, node.all_start_micros, node.timeline_label)
    for device in metadata.step_stats.dev_stats
    for node in device.node_stats
    if re.search(r' = \w*MatMul\(', node.timeline_label)
  }
  return before, after, len(products)


@pytest.mark.parametrize('trained', ['a', 'b', 'd', 'bd', 'abcd', ''])
@pytest.mark.parametrize('num_cells', [1, 4])
def test_the_products_that_are_needed_run_and_no_others(num_cells, trained):
  p = _task(
    tiny_pipeline.linear(*_NAMES),
    num_cells,
    f'/[{trained}]/' if trained else 'no such name',
    recompute='never',
  )
  if not trained:
    # Lingvo's learner wants something to train.
    with pt.cluster(num_cells), tf.Graph().as_default():
      py_utils.GetOrCreateGlobalStepVar()
      task = p.Instantiate()
      x = tf.constant(tiny_pipeline.inputs(8))
      task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=x))
      assert task.net.schedule.forward_only
    return
  before, after, count = _step(p, num_cells)
  behind = len(_NAMES) - 1 - _NAMES.index(trained[0])
  assert count == _M * (len(_NAMES) + len(trained) + behind)
  for name, value in after.items():
    moved = name.split('/')[2] in trained
    assert np.any(value != before[name]) == moved, name


def test_low_rank_adapters_cost_no_product_of_the_large_matrices():
  subs = [Adapted.Params().Set(name=name) for name in _NAMES]
  _, _, count = _step(_task(subs, 2, 'adapter', recompute='never'), 2)
  _, _, of_all = _step(_task(subs, 2, recompute='never'), 2)
  # Forward; data behind layer a; two small weights of each layer, of which one
  # is reached by way of a product of data, of layer a too.
  assert count == _M * (4 * 3 + 3 * 3 + 4 * 2 + 1)
  assert of_all == count + _M * 4


@pytest.mark.parametrize('learner', ['/[bd]/', '/c/', 'adapter'])
def test_numbers_are_those_of_the_plain_model_with_the_same_filter(learner):
  subs = [Adapted.Params().Set(name=name) for name in _NAMES]
  _, expected, _ = _step(_task(subs, 1, learner, PlainTask), 1)
  reference = None
  for num_cells, schedule, recompute in (
    (1, 'gpipe', 'always'),
    (2, '1f1b', 'always'),
    (4, '1f1b', 'never'),
    (4, 'gpipe', 'except_last'),
  ):
    p = _task(subs, num_cells, learner, schedule=schedule, recompute=recompute)
    _, found, _ = _step(p, num_cells)
    reference = reference or found
    for name, value in found.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
      np.testing.assert_array_equal(value, reference[name], err_msg=name)


def test_cells_before_the_first_that_is_trained_have_no_backward_tasks():
  with pt.cluster(4), tf.Graph().as_default() as graph:
    task = _build(_task(tiny_pipeline.linear(*_NAMES), 4, '/[cd]/'))
    assert task.net.schedule.first_backward == 2
    [emitted] = task.net.emitted
    backward = {
      t.cell for t in emitted.task_of_op.values() if t.kind.value == 'B'
    }
    assert backward == {2, 3}
    names = {op.name.split('/')[0] for op in graph.get_operations()}
    assert not any(name.startswith(('d0_B', 'd1_B')) for name in names)


def _gradients(p, of, num_cells=2, loss_outside=False):
  """Asks for gradients in a graph of their own; `of` chooses from the layer."""
  with pt.cluster(num_cells), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    layer = p.Instantiate()
    x = tf.constant(tiny_pipeline.inputs(8))
    if loss_outside:
      loss = tf.reduce_sum(layer.FProp(layer.theta, x))
    else:
      loss = layer.ComputeLoss(layer.theta, x, x).loss[0]
    return tf.gradients(loss, of(layer, x))


@pytest.mark.parametrize('loss_outside', [False, True])
def test_a_gradient_of_what_is_frozen_is_an_error(loss_outside):
  p = tiny_pipeline.with_loss(
    tiny_pipeline.linear(*_NAMES), bprop_variable_filter='/[cd]/'
  )
  of = tiny_pipeline.subs_of
  [found] = _gradients(p, lambda layer, _: of(layer)['d'].vars.w)
  assert found is not None
  for name in 'abc':
    subs = tiny_pipeline.linear(*_NAMES)
    p = tiny_pipeline.with_loss(subs, bprop_variable_filter='/d/')
    words = f"one of .*net/{name}/w/.*net has bprop_variable_filter='/d/'"
    with pytest.raises(ValueError, match=words):
      _gradients(
        p,
        lambda layer, _, name=name: of(layer)[name].vars.w,
        loss_outside=loss_outside,
      )
  with pytest.raises(ValueError, match='a gradient of an input is asked for'):
    _gradients(p, lambda layer, x: x, loss_outside=loss_outside)


def test_learners_may_train_no_more_than_the_pipeline():
  subs = tiny_pipeline.linear(*_NAMES)
  p = _task(subs, 2, '/[bc]/', bprop_variable_filter='/[cd]/')
  with (
    pt.cluster(2),
    tf.Graph().as_default(),
    pytest.raises(ValueError) as raised,
  ):
    _build(p)
  assert str(raised.value).startswith(
    'task.net is not to train task/net/b/w/var:0, but a learner is: task.net '
    "has bprop_variable_filter='/[cd]/'; learner 'loss' of task has "
    "bprop_variable_filter='/[bc]/'."
  )


def test_the_pipeline_may_differentiate_more_than_learners_train():
  subs = tiny_pipeline.linear(*_NAMES)
  p = _task(subs, 2, '/d/', bprop_variable_filter='.')
  gradients = []

  def ask(task):
    loss = task.eval_metrics['loss'][0]
    gradients.extend(tf.gradients(loss, task.net.vars.Flatten()))

  with pt.cluster(2), tf.Graph().as_default():
    task = _build(p, ask)
    assert task.net.schedule.first_backward == 0
  assert len(gradients) == 4 and None not in gradients


@pytest.mark.parametrize('name', ['filter', 'exclusion'])
def test_what_is_no_regular_expression_is_named(name):
  p = tiny_pipeline.with_loss(tiny_pipeline.linear(*_NAMES))
  p.Set(**{f'bprop_variable_{name}': '(a'})
  with (
    pt.cluster(2),
    tf.Graph().as_default(),
    pytest.raises(ValueError, match=rf"net.bprop_variable_{name} is '\(a'"),
  ):
    p.Instantiate()


def test_an_exclusion_freezes_what_it_finds():
  p = tiny_pipeline.with_loss(
    tiny_pipeline.linear(*_NAMES), 4, bprop_variable_exclusion='/[ab]/'
  )
  of = tiny_pipeline.subs_of
  with pt.cluster(4), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    layer = p.Instantiate()
    x = tf.constant(tiny_pipeline.inputs(8))
    layer.ComputeLoss(layer.theta, x, x)
    assert layer.schedule.first_backward == 2
    trained = [
      n for n, sub in of(layer).items() if layer.trained_variables(sub.vars.w)
    ]
    assert trained == ['c', 'd']


@pytest.mark.parametrize(
  'learner, first', [(None, 0), ('/emb/', 0), ('/c/', 2)]
)
def test_a_frozen_layer_before_the_pipeline_needs_no_gradient(learner, first):
  emb = layers.SimpleEmbeddingLayer.Params().Set(
    name='emb',
    vocab_size=5,
    embedding_dim=tiny_pipeline.WIDTH,
    fprop_mode='gather',
    use_matmul=False,
  )
  p = _task(tiny_pipeline.linear(*_NAMES), 4, learner, before_tpl=[emb])
  with pt.cluster(4), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    task = p.Instantiate()
    ids = tf.constant([0, 1, 2, 3, 4, 0, 1, 2])
    y = tf.constant(tiny_pipeline.inputs(8))
    task.FPropDefaultTheta(py_utils.NestedMap(x=ids, y=y))
    task.BProp()
    assert task.net.schedule.first_backward == first


class _UsesOutside(tiny_pipeline.Linear):
  """Also adds a tensor of the graph around."""

  outside = None

  def FProp(self, theta, x):
    return super().FProp(theta, x) + type(self).outside


def test_a_frozen_cell_that_hides_a_trained_weight_is_an_error():
  subs = [_UsesOutside.Params().Set(name='a'), *tiny_pipeline.linear('b')]
  p = tiny_pipeline.with_loss(subs, bprop_variable_filter='/b/|mine')
  for name, fails in (('mine', True), ('other', False)):
    with pt.cluster(2), tf.Graph().as_default():
      py_utils.GetOrCreateGlobalStepVar()
      _UsesOutside.outside = tf.get_variable(name, [], use_resource=True) * 2.0
      layer = p.Instantiate()
      x = tf.constant(tiny_pipeline.inputs(8))
      if fails:
        with pytest.raises(
          ValueError, match="nothing up to cell 'd0' is trained"
        ):
          layer.ComputeLoss(layer.theta, x, x)
      else:
        layer.ComputeLoss(layer.theta, x, x)


class _UsesTied(named_layers.NamedValueLayer):
  """x w^T + x, with another layer's w."""

  def FProp(self, theta, x):
    return x + tf.matmul(x, theta.tied, transpose_b=True)


def test_a_tied_weight_is_frozen_with_its_owner():
  user = _UsesTied.Params().Set(name='c', weights_of={'tied': 'a.w'})
  subs = [*tiny_pipeline.linear('a', 'b'), user]
  before, after, count = _step(_task(subs, 3, '/b/', recompute='never'), 3)
  # Three forward, b's weight, and data through c.
  assert count == _M * (3 + 1 + 1)
  moved = {name for name in after if np.any(after[name] != before[name])}
  assert moved == {'task/net/b/w/var:0'}


def test_a_value_put_aside_by_a_frozen_cell_needs_no_gradient():
  subs = [
    *tiny_pipeline.linear('a'),
    named_layers.PutLayer.Params().Set(name='put', puts=['x']),
    *tiny_pipeline.linear('b', 'c'),
    named_layers.TakeLayer.Params().Set(name='add', takes=['x'], combine='add'),
    *tiny_pipeline.linear('d'),
  ]
  found = []
  for num_cells in (1, 3, 6):
    p = _task(subs, num_cells, '/c/', recompute='never')
    _, after, count = _step(p, num_cells)
    assert count == _M * (4 + 1 + 1)
    found.append(after)
  for other in found[1:]:
    np.testing.assert_equal(other, found[0])
