# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer's FProp reads and leaves behind besides inputs and outputs."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import base_layer, layers, py_utils, recurrent

from lingvo_gpipe import pipelining_layer
from lingvo_gpipe.engine import graph_walks

_WIDTH = tiny_pipeline.WIDTH
Linear = tiny_pipeline.Linear


def _x(batch=7):
  return tf.constant(tiny_pipeline.inputs(batch))


def _gradients(y, layer):
  return tf.gradients(tf.reduce_sum(y * y), layer.vars.Flatten())


def _assert_like_unpipelined(params, make_inputs=_x, rtol=1e-5, num_devices=2):
  """Asserts equal outputs and gradients; returns the gradients."""

  def build():
    layer = params.Instantiate()
    x = make_inputs()
    y = layer.FProp(layer.theta, x)
    plain = tiny_pipeline.unpipelined(layer, x)
    return (y, _gradients(y, layer)), (plain, _gradients(plain, layer))

  got, plain = tiny_pipeline.run(build, num_devices=num_devices)
  np.testing.assert_allclose(got[0], plain[0], rtol=rtol)
  for a, b in zip(got[1], plain[1], strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)
  return got[1]


# -- Global step and step seeds.


class AddStep(Linear):
  def FProp(self, theta, x):
    return super().FProp(theta, x) + tf.cast(
      py_utils.GetGlobalStep(), tf.float32
    )


def test_layers_see_the_global_step():
  params = tiny_pipeline.pipeline([AddStep.Params().Set(name='l')], 1)

  def build():
    layer = params.Instantiate()
    return layer.FProp(layer.theta, tf.zeros([7, _WIDTH]))

  assert (tiny_pipeline.run(build, step=2**24) == 2**24).all()


class ShowSeed(base_layer.BaseLayer):
  """Appends the seed pair it would draw random numbers with."""

  def FProp(self, theta, seeds):
    pair = tf.cast(py_utils.GenerateStepSeedPair(self.params), tf.int64)
    rows = tf.tile(pair[None, None], [tf.shape(seeds)[0], 1, 1])
    return tf.concat([seeds, rows], axis=1)


def test_step_seeds_differ_by_layer_and_micro_batch_but_not_by_cut():
  def seeds(num_cells):
    subs = [ShowSeed.Params().Set(name=f'l{i}') for i in range(3)]
    params = tiny_pipeline.pipeline(subs, num_cells)

    def build():
      layer = params.Instantiate()
      return layer.FProp(layer.theta, tf.zeros([4, 0, 2], tf.int64))

    return tiny_pipeline.run(build, step=1_000_000)

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


# -- Fetched activations.


def _fetch(name):
  return layers.FetchLayer.Params().Set(name=name)


@pytest.mark.parametrize('inside', [True, False])
def test_fetched_activations_are_those_of_the_mini_batch(inside):
  subs = [
    *tiny_pipeline.linear('l0'),
    _fetch('f0'),
    *tiny_pipeline.linear('l1'),
    _fetch('f1'),
    *tiny_pipeline.linear('l2'),
  ]

  def build():
    layer = tiny_pipeline.with_loss(subs).Instantiate()
    fetches = [tiny_pipeline.subs_of(layer)[name] for name in ('f0', 'f1')]
    x = _x()
    if inside:
      y = layer.ComputeLoss(layer.theta, x, _x()).loss[0]
    else:
      y = layer.FProp(layer.theta, x)
    # With x, whose gradient nothing needs, the first cell is traced again.
    gradients = tf.gradients(y, [x, *layer.vars.Flatten()])
    got = [fetch.activation for fetch in fetches]
    tiny_pipeline.unpipelined(layer, x)
    return got, [fetch.activation for fetch in fetches], gradients

  got, plain, _ = tiny_pipeline.run(build)
  np.testing.assert_allclose(got, plain, rtol=1e-5)


def test_act_fetch_layers_and_num_act_inputs_cross_cells():
  first = pipelining_layer.FeatureExtractionLayer.Params().Set(
    name='d0',
    sub=[*tiny_pipeline.linear('l0'), _fetch('f0')],
    act_fetch_layers=['f0'],
    num_act_outputs=1,
  )
  second = pipelining_layer.FeatureExtractionLayer.Params().Set(
    name='d1',
    sub=tiny_pipeline.linear('l1'),
    num_act_inputs=1,
    num_act_outputs=1,
  )
  params = tiny_pipeline.pipeline([]).Set(cell_tpl=[first, second])

  def build():
    layer = params.Instantiate()
    x = _x()
    w0, w1 = (s.vars.w for s in tiny_pipeline.subs_of(layer).values() if s.vars)
    hidden = x + tf.matmul(x, w0)
    plain = hidden + tf.matmul(hidden, w1), hidden
    y = layer.FProp(layer.theta, x)
    assert isinstance(y, tuple)

    def loss(outputs):
      return tf.reduce_sum(outputs[0] ** 2) + tf.reduce_sum(outputs[1] ** 3)

    return (
      (y, tf.gradients(loss(y), [w0, w1])),
      (plain, tf.gradients(loss(plain), [w0, w1])),
    )

  got, plain = tiny_pipeline.run(build, num_devices=2)
  np.testing.assert_allclose(got[0], plain[0], rtol=1e-5)
  np.testing.assert_allclose(got[1], plain[1], rtol=1e-4)


# -- Weights.


class ReadsItsVariable(Linear):
  """Uses self.vars where theta is meant, and theta as well."""

  def FProp(self, theta, x):
    w = self.vars.w
    assert (w.shape, w.dtype) == ([_WIDTH, _WIDTH], tf.float32)
    return x + tf.matmul(x, w) * 2.0 + tf.matmul(x, theta.w + w[0])


def test_layers_that_read_their_variables_get_right_gradients():
  subs = [ReadsItsVariable.Params().Set(name=f'l{i}') for i in range(2)]
  gradients = _assert_like_unpipelined(tiny_pipeline.pipeline(subs))
  assert all(np.abs(g).max() > 0 for g in gradients)


def test_variables_are_read_outside_of_the_cells_functions():
  def build():
    layer = tiny_pipeline.pipeline(
      [ReadsItsVariable.Params().Set(name='l')], 1
    ).Instantiate()
    gradients = _gradients(layer.FProp(layer.theta, _x()), layer)
    definitions = graph_walks.definitions(tf.get_default_graph())
    ops = {node.op for d in definitions.values() for node in d.node_def}
    assert 'MatMul' in ops
    assert not ops & {'ReadVariableOp', 'VarHandleOp'}
    return gradients

  tiny_pipeline.run(build)


class CastThenReadsVariable(Linear):
  """Its variable is not what is in theta, which is cast to bfloat16."""

  def FProp(self, theta, x):
    assert theta.w.dtype == tf.bfloat16
    return x + tf.matmul(x, tf.cast(theta.w, x.dtype)) + self.vars.w[0]


def test_variables_that_theta_has_cast_get_gradients_by_both_ways():
  subs = [
    CastThenReadsVariable.Params().Set(name=f'l{i}', fprop_dtype=tf.bfloat16)
    for i in range(2)
  ]
  _assert_like_unpipelined(tiny_pipeline.pipeline(subs), rtol=2e-2)


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
    tiny_pipeline.run(lambda: params.Instantiate().FPropDefaultTheta(_x()))


class Captures(Linear):
  """Uses tensors made outside of the pipeline."""

  def __init__(self, params):
    super().__init__(params)
    self.constant = tf.constant([1.0, 2.0, 3.0])
    self.outside = None

  def FProp(self, theta, x):
    return super().FProp(theta, x) * self.constant + self.outside


def test_captured_tensors_work_and_get_gradients():
  subs = [Captures.Params().Set(name=f'l{i}') for i in range(2)]

  def build():
    layer = tiny_pipeline.pipeline(subs).Instantiate()
    outside = tf.get_variable('outside', [_WIDTH])
    for sub in tiny_pipeline.subs_of(layer).values():
      sub.outside = 2.0 * outside
    x = _x()
    results = []
    for y in (layer.FProp(layer.theta, x), tiny_pipeline.unpipelined(layer, x)):
      results.append((y, tf.gradients(tf.reduce_sum(y * y), outside)[0]))
    return results

  got, plain = tiny_pipeline.run(build, num_devices=2)
  np.testing.assert_allclose(got[0], plain[0], rtol=1e-5)
  np.testing.assert_allclose(got[1], plain[1], rtol=1e-4)


class Embedding(base_layer.BaseLayer):
  """Looks up ids, [batch, 2], in a table."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'table',
      py_utils.WeightParams([5, _WIDTH], py_utils.WeightInit.Gaussian()),
    )

  def FProp(self, theta, ids):
    return tf.reduce_sum(tf.nn.embedding_lookup(theta.table, ids), axis=1)


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_sparse_gradients_stay_sparse_and_keep_their_norm(recompute):
  params = tiny_pipeline.with_loss(
    [Embedding.Params().Set(name='emb'), *tiny_pipeline.linear('l')],
    recompute=recompute,
  )
  # Repeated within an example, a micro-batch and across micro-batches.
  ids = np.array([[0, 0], [0, 1], [3, 1], [1, 1], [3, 0], [0, 2], [2, 2]])

  def build():
    layer = params.Instantiate()
    table = layer.vars.d0.emb.table
    targets = tf.constant(tiny_pipeline.inputs(7))
    outputs = tiny_pipeline.unpipelined(layer, tf.constant(ids))
    results = []
    for loss in (
      layer.ComputeLoss(layer.theta, tf.constant(ids), targets).loss[0],
      layer.loss.FProp(layer.theta.loss, outputs, targets)['loss'][0],
    ):
      [gradient] = tf.gradients(loss, [table])
      assert isinstance(gradient, tf.IndexedSlices)
      norm = py_utils.SumSquared([gradient])
      results.append((tf.convert_to_tensor(gradient), norm))
    return results

  got, plain = tiny_pipeline.run(build, num_devices=2)
  np.testing.assert_allclose(got[0], plain[0], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(got[1], plain[1], rtol=1e-5)


def test_bfloat16_activations_with_float32_variables():
  def gradients(dtype):
    subs = tiny_pipeline.linear('l0', 'l1')
    params = tiny_pipeline.pipeline(subs, fprop_dtype=dtype)

    def build():
      layer = params.Instantiate()
      y = layer.FProp(layer.theta, tf.cast(_x(), dtype))
      assert y.dtype == dtype
      found = _gradients(tf.cast(y, tf.float32), layer)
      assert all(g.dtype == tf.float32 for g in found)
      return found

    return tiny_pipeline.run(build, num_devices=2)

  for half, full in zip(
    gradients(tf.bfloat16), gradients(tf.float32), strict=True
  ):
    assert np.linalg.norm(half - full) < 0.02 * np.linalg.norm(full)


# -- Loops.


class Loop(base_layer.BaseLayer):
  """Three rounds of tanh(x w), with dropout if it is to be random."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('keep_prob', 1.0, '')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w',
      py_utils.WeightParams(
        [_WIDTH, _WIDTH], py_utils.WeightInit.Gaussian(1.0)
      ),
    )

  def FProp(self, theta, x):
    def cell(theta, state, inputs):
      del inputs
      y = tf.tanh(tf.matmul(state.x, theta.w))
      if self.params.keep_prob < 1.0:
        y = py_utils.DeterministicDropout(
          y,
          keep_prob=self.params.keep_prob,
          seeds=py_utils.GenerateStepSeedPair(self.params),
        )
      return py_utils.NestedMap(x=y), py_utils.NestedMap()

    _, final = recurrent.Recurrent(
      py_utils.NestedMap(w=theta.w),
      py_utils.NestedMap(x=x),
      py_utils.NestedMap(t=tf.zeros([3])),
      cell,
    )
    return final.x


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_loops_give_right_gradients(recompute):
  subs = [Loop.Params().Set(name=f'l{i}') for i in range(2)]
  _assert_like_unpipelined(tiny_pipeline.pipeline(subs, recompute=recompute))


def test_dropout_in_loops_differs_by_micro_batch_and_is_recomputed():
  def run(recompute):
    subs = [Loop.Params().Set(name='l0', keep_prob=0.5)]
    params = tiny_pipeline.pipeline(subs, 1, recompute=recompute)

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
