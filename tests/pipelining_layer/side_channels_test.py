# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer's FProp reads and leaves behind besides inputs and outputs."""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_model import inside, outside, plain
from example_models import (
  Loop,
  ReadsItsVariable,
  layers_of,
  linear_batch,
  table_model,
)
from lingvo.core import base_layer, layers, py_utils

from lingvo_gpipe.engine import graph_walks

_WIDTH = tiny_pipeline.WIDTH
Linear = tiny_pipeline.Linear


class AddStep(Linear):
  def FProp(self, theta, x):
    return super().FProp(theta, x) + tf.cast(
      py_utils.GetGlobalStep(), tf.float32
    )


def test_layers_see_the_global_step():
  params = tiny_pipeline.pipeline([AddStep.Params().Set(name='l')], 1)
  x = np.zeros([7, _WIDTH], np.float32)
  assert (tiny_pipeline.outputs(params, x, step=2**24) == 2**24).all()


class ShowSeed(base_layer.BaseLayer):
  """Appends the seed pair it would draw random numbers with."""

  def FProp(self, theta, seeds):
    pair = tf.cast(py_utils.GenerateStepSeedPair(self.params), tf.int64)
    rows = tf.tile(pair[None, None], [tf.shape(seeds)[0], 1, 1])
    return tf.concat([seeds, rows], axis=1)


def test_step_seeds_differ_by_layer_and_micro_batch_but_not_by_cut():
  def seeds(num_cells):
    params = tiny_pipeline.pipeline(layers_of(ShowSeed, 3), num_cells)
    empty = np.zeros([4, 0, 2], np.int64)
    return tiny_pipeline.outputs(params, empty, step=1_000_000)

  one_cell = seeds(1)
  assert one_cell.shape == (4, 3, 2)
  assert (one_cell[..., 0] == 1_000_000).all()
  assert len(np.unique(one_cell[..., 1])) == 12
  np.testing.assert_array_equal(seeds(3), one_cell)


def test_two_pipelines_in_a_graph_have_different_step_seeds():
  def build():
    outputs = []
    for name in ('a', 'b'):
      subs = [ShowSeed.Params().Set(name='l')]
      layer = tiny_pipeline.pipeline(subs, 1).Set(name=name).Instantiate()
      outputs.append(layer.FProp(layer.theta, tf.zeros([4, 0, 2], tf.int64)))
    return tf.concat(outputs, 0)

  assert len(np.unique(tiny_pipeline.run(build)[..., 1])) == 8


def _fetch(name):
  return layers.FetchLayer.Params().Set(name=name)


@pytest.mark.parametrize('compute', [inside, outside])
def test_fetched_activations_are_those_of_the_mini_batch(compute):
  l0, l1, l2 = tiny_pipeline.linear('l0', 'l1', 'l2')
  subs = [l0, _fetch('f0'), l1, _fetch('f1'), l2]

  def build():
    layer = tiny_pipeline.with_loss(subs).Instantiate()
    fetches = [tiny_pipeline.subs_of(layer)[name] for name in ('f0', 'f1')]
    batch = linear_batch()
    loss = compute(layer, batch)['loss'][0]
    # With x, whose gradient nothing needs, the first cell is traced again.
    gradients = tf.gradients(loss, [batch.inputs, *layer.vars.Flatten()])
    got = [fetch.activation for fetch in fetches]
    plain(layer, batch)
    return got, [fetch.activation for fetch in fetches], gradients

  got, expected, _ = tiny_pipeline.run(build)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_variables_are_read_outside_of_the_cells_functions():
  def build():
    layer = tiny_pipeline.pipeline(
      layers_of(ReadsItsVariable, 1), 1
    ).Instantiate()
    y = layer.FProp(layer.theta, tf.constant(tiny_pipeline.inputs()))
    gradients = tf.gradients(y * y, layer.vars.Flatten())
    definitions = graph_walks.definitions(tf.get_default_graph())
    ops = {node.op for d in definitions.values() for node in d.node_def}
    assert 'MatMul' in ops
    assert not ops & {'ReadVariableOp', 'VarHandleOp'}
    return gradients

  tiny_pipeline.run(build)


class Assigns(Linear):
  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'count', py_utils.WeightParams([], py_utils.WeightInit.Constant(0.0))
    )

  def FProp(self, theta, x):
    tf.assign_add(self.vars.count, 1.0)
    return super().FProp(theta, x)


def test_assigning_a_variable_is_refused():
  params = tiny_pipeline.pipeline([Assigns.Params().Set(name='l')], 1)
  with pytest.raises(ValueError, match=r"'d0'.*assign_add\(\).*net/l/count"):
    tiny_pipeline.outputs(params, tiny_pipeline.inputs())


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_sparse_gradients_stay_sparse_and_keep_their_norm(recompute):
  model = table_model()

  def build():
    layer = model.pipeline(2, recompute=recompute).Instantiate()
    norms = []
    for compute in (inside, plain):
      loss = compute(layer, model.batch()).loss[0]
      [gradient] = tf.gradients(loss, [layer.vars.d0.emb.table])
      assert isinstance(gradient, tf.IndexedSlices)
      norms.append(py_utils.SumSquared([gradient]))
    return norms

  got, expected = tiny_pipeline.run(build, num_devices=2)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_dropout_in_loops_differs_by_micro_batch_and_is_recomputed():
  def run(recompute):
    params = tiny_pipeline.pipeline(
      layers_of(Loop, 1, keep_prob=0.5), 1, recompute=recompute
    )

    def build():
      layer = params.Instantiate()
      y = layer.FProp(layer.theta, tf.ones([8, _WIDTH]))
      return y, tf.gradients(tf.reduce_sum(y), layer.vars.Flatten())[0]

    return tiny_pipeline.run(build)

  outputs, gradient = run('always')
  masks = (outputs != 0).reshape(4, 2 * _WIDTH)
  assert len(np.unique(masks, axis=0)) > 1
  _, kept = run('never')
  np.testing.assert_array_equal(gradient, kept)


class Bounded(base_layer.BaseLayer):
  def FProp(self, theta, x):
    del theta
    largest = tf.reduce_max(tf.abs(x))
    fine = tf.debugging.Assert(largest < 1000, ['too large', largest])
    with tf.control_dependencies([fine]):
      return tf.identity(x)


@pytest.mark.parametrize('num_cells', [1, 2])
def test_an_assertion_says_in_which_cell_layer_and_micro_batch_it_failed(
  num_cells,
):
  with pt.graph(num_cells) as graph:
    bounded = Bounded.Params().Set(name='bounded')
    subs = [*tiny_pipeline.linear('a', 'b', 'c'), bounded]
    layer = tiny_pipeline.pipeline(
      subs, num_cells, num_micro_batches=4
    ).Instantiate()
    x = tf.placeholder(tf.float32, [8, tiny_pipeline.WIDTH])
    outputs = layer.FProp(layer.theta, x)
    values = tiny_pipeline.inputs()
    values[5] = 1e6
    with pt.session(num_cells, graph) as session:
      session.run(tf.global_variables_initializer())
      with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r'\[too large\] \[\S+\] \[in cell \S+, layer \S*bounded, '
        r'micro-batch\] \[2\]',
      ):
        session.run(outputs, {x: values})
