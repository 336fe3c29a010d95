# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is not trained is not differentiated, however the model is cut."""

import contextlib
import re

import declared
import engine_testing
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
import unet
from example_model import Batch, inside, outside
from lingvo.core import layers, optimizer, py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import plain_run

_NAMES = ('a', 'b', 'c', 'd')
_M = 4


class Adapted(declared.Layer):
  WEIGHTS = {
    'w': [tiny_pipeline.WIDTH, tiny_pipeline.WIDTH],
    'adapter_a': [tiny_pipeline.WIDTH, 1],
    'adapter_b': [1, tiny_pipeline.WIDTH],
  }

  def FProp(self, theta, x):
    low = tf.matmul(tf.matmul(x, theta.adapter_a), theta.adapter_b)
    return x + tf.matmul(x, theta.w) + low


def _task(subs, num_cells, learner=None, **kwargs):
  net = tiny_pipeline.with_loss(subs, num_cells, _M, **kwargs)
  p = tiny_pipeline.task_params(net)
  p.train.learner.Set(
    bprop_variable_filter=learner, optimizer=optimizer.SGD.Params()
  )
  return p


def _step(p, num_devices):
  """Runs a step: values before and after, and how many products it takes."""
  with pt.graph(num_devices) as graph:
    task = tiny_pipeline.build_task(p)
    variables = {v.name: v for v in task.net.vars.Flatten()}
    metadata = tf.tf1.RunMetadata()
    with pt.session(num_devices, graph) as sess:
      sess.run(tf.global_variables_initializer())
      before = sess.run(variables)
      options = tf.tf1.RunOptions(trace_level=tf.tf1.RunOptions.FULL_TRACE)
      sess.run(task.train_op, options=options, run_metadata=metadata)
      after = sess.run(variables)
  return before, after, engine_testing.num_ran(metadata, 'MatMul')


class UsesTied(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return x + tf.matmul(x, theta.tied, transpose_b=True)


_LINEAR = tiny_pipeline.linear(*_NAMES)
_ADAPTED = [Adapted.Params().Set(name=name) for name in _NAMES]
_TIED = [
  *_LINEAR[:2],
  UsesTied.Params().Set(name='c', weights_of={'tied': 'a.w'}),
]
_SKIP = [
  _LINEAR[0],
  unet.put('put', 'x'),
  *_LINEAR[1:3],
  unet.take('add', 'x', combine='add'),
  _LINEAR[3],
]


@pytest.mark.parametrize('num_cells', [1, 3])
@pytest.mark.parametrize(
  ('subs', 'learner', 'products'),
  [
    # Forward; of the trained weights; and of data behind the first of them.
    (_LINEAR, '/a/', 4 + 1 + 3),
    (_LINEAR, '/d/', 4 + 1),
    (_LINEAR, '/[bd]/', 4 + 2 + 2),
    (_LINEAR, None, 4 + 4 + 3),
    # Of two small weights of each layer one is reached by way of a product of
    # data, of layer a too.
    (_ADAPTED, 'adapter', 4 * 3 + 4 * 2 + 3 * 3 + 1),
    (_ADAPTED, None, 4 * 3 + 4 * 3 + 3 * 3 + 1),
    # A tied weight is frozen with its owner: only data go through c.
    (_TIED, '/b/', 3 + 1 + 1),
    # What is put aside by a frozen layer needs no gradient.
    (_SKIP, '/c/', 4 + 1 + 1),
  ],
)
def test_the_products_that_are_needed_run_and_no_others(
  subs, learner, products, num_cells
):
  p = _task(subs, num_cells, learner, recompute='never')
  before, after, count = _step(p, num_cells)
  assert count == _M * products
  for name, value in after.items():
    is_trained = bool(re.search(learner or '', name))
    assert np.any(value != before[name]) == is_trained, name


@pytest.mark.parametrize(
  ('subs', 'learner'),
  [(_ADAPTED, '/[bc]/'), (_ADAPTED, 'adapter'), (_SKIP, '/c/')],
)
def test_numbers_are_those_of_the_plain_model_with_the_same_filter(
  subs, learner
):
  with plain_run.without_pipeline():
    _, expected, _ = _step(_task(subs, 1, learner), 1)
  reference = None
  for num_cells, schedule, recompute in (
    (1, 'gpipe', 'always'),
    (4, '1f1b', 'never'),
    (2, 'gpipe', 'except_last'),
  ):
    p = _task(subs, num_cells, learner, schedule=schedule, recompute=recompute)
    _, found, _ = _step(p, num_cells)
    reference = reference or found
    for name, value in found.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
      np.testing.assert_array_equal(value, reference[name], err_msg=name)


_EMBEDDING = layers.SimpleEmbeddingLayer.Params().Set(
  name='emb',
  vocab_size=5,
  embedding_dim=tiny_pipeline.WIDTH,
  fprop_mode='gather',
  use_matmul=False,
)


@pytest.mark.parametrize(
  ('learner', 'first', 'net'),
  [
    ('/[cd]/', 2, {}),
    ('no such name', None, {}),
    # The pipeline may differentiate more than learners train.
    ('/d/', 2, {'bprop_variable_exclusion': '/[ab]/'}),
    ('/d/', 0, {'bprop_variable_filter': '.'}),
    (None, 0, {'before_tpl': [_EMBEDDING]}),
    ('/emb/', 0, {'before_tpl': [_EMBEDDING]}),
    ('/c/', 2, {'before_tpl': [_EMBEDDING]}),
  ],
)
def test_the_first_cell_with_backward_tasks(learner, first, net):
  with pt.graph(4):
    task = _task(_LINEAR, 4, learner, **net).Instantiate()
    y = tf.constant(tiny_pipeline.inputs(8))
    x = tf.constant([0, 1, 2, 3, 4, 0, 1, 2]) if 'before_tpl' in net else y
    task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=y))
    schedule = task.net.schedule
    assert schedule.forward_only == (first is None)
    assert schedule.first_backward == (first or 0)
    if 'bprop_variable_filter' in net:
      loss = task.eval_metrics['loss'][0]
      assert None not in tf.gradients(loss, task.net.vars.Flatten())


@pytest.mark.parametrize('compute', [inside, outside])
@pytest.mark.parametrize('name', [*'abc', None])
def test_a_gradient_of_what_is_frozen_is_an_error(compute, name):
  p = tiny_pipeline.with_loss(_LINEAR, bprop_variable_filter='/d/')
  words = f"one of .*net/{name}/w/.*net has bprop_variable_filter='/d/'"
  with pt.graph(2):
    layer = p.Instantiate()
    x = tf.constant(tiny_pipeline.inputs(8))
    loss = compute(layer, Batch(x, x))['loss'][0]
    subs = tiny_pipeline.subs_of(layer)
    assert tf.gradients(loss, subs['d'].vars.w) != [None]
    if not name:
      words = 'a gradient of an input is asked for'
    with pytest.raises(ValueError, match=words):
      tf.gradients(loss, subs[name].vars.w if name else x)


def test_learners_may_train_no_more_than_the_pipeline():
  p = _task(_LINEAR, 2, '/[bc]/', bprop_variable_filter='/[cd]/')
  with pt.graph(2), pytest.raises(ValueError) as raised:
    tiny_pipeline.build_task(p)
  assert str(raised.value).startswith(
    'task.net is not to train task/net/b/w/var:0, but a learner is: task.net '
    "has bprop_variable_filter='/[cd]/'; learner 'loss' of task has "
    "bprop_variable_filter='/[bc]/'."
  )


class _UsesOutside(tiny_pipeline.Linear):
  outside = None

  def FProp(self, theta, x):
    return super().FProp(theta, x) + type(self).outside


@pytest.mark.parametrize('name', ['mine', 'other'])
def test_a_frozen_cell_that_hides_a_trained_weight_is_an_error(name):
  subs = [_UsesOutside.Params().Set(name='a'), *tiny_pipeline.linear('b')]
  p = tiny_pipeline.with_loss(subs, bprop_variable_filter='/b/|mine')
  with pt.graph(2):
    _UsesOutside.outside = tf.get_variable(name, [], use_resource=True) * 2.0
    layer = p.Instantiate()
    x = tf.constant(tiny_pipeline.inputs(8))
    with (
      pytest.raises(ValueError, match="nothing up to cell 'd0' is trained")
      if name == 'mine'
      else contextlib.nullcontext()
    ):
      layer.ComputeLoss(layer.theta, x, x)
