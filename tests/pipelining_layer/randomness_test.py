# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dropout masks are distinct; what is recomputed is what ran before."""

import contextlib

import declared
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_layer, layers, py_utils, recurrent

_WIDTH = 64
_MICRO_BATCHES = 4


class MaskLayer(base_layer.BaseLayer):
  """Appends the dropout mask it draws to its input: [batch, n, width]."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateChild(
      'dropout', layers.DeterministicDropoutLayer.Params().Set(keep_prob=0.5)
    )

  def FProp(self, theta, x):
    ones = tf.ones([tf.shape(x)[0], 1, _WIDTH], x.dtype)
    return tf.concat([x, self.dropout.FProp(theta.dropout, ones)], axis=1)


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_masks_near_step_a_million_are_all_distinct(dtype):
  subs = [MaskLayer.Params().Set(name=f'l{i}') for i in range(4)]
  params = tiny_pipeline.pipeline(subs, 2, _MICRO_BATCHES)
  masks = []
  with pt.graph(2) as graph:
    global_step = py_utils.GetGlobalStep()
    outputs = params.Instantiate().FPropDefaultTheta(
      tf.zeros([_MICRO_BATCHES, 0, _WIDTH], dtype)
    )
    with pt.session(2, graph) as sess:
      sess.run(tf.global_variables_initializer())
      # 16 steps of 4 micro-batches: 64 consecutive pairs, for each of 4 layers.
      for step in range(1_000_000, 1_000_016):
        sess.run(tf.assign(global_step, step))
        masks.append(sess.run(tf.cast(outputs, tf.float32)))
  masks = np.concatenate(masks).reshape([-1, _WIDTH])
  assert len(masks) == 64 * 4
  assert len(np.unique(masks, axis=0)) == len(masks)


_calls = []


def _noise(x):
  _calls.append(1)
  noise = np.random.RandomState(len(_calls)).uniform(0.5, 1.5, x.shape)
  return noise.astype(np.float32)


def _numpy(x):
  noise = tf.numpy_function(_noise, [x], tf.float32)
  noise.set_shape(x.shape)
  return noise


def _counter(x):
  count = tf.get_variable(
    'count', initializer=0.0, use_resource=True, trainable=False
  )
  handle = count.handle
  add = tf.raw_ops.AssignAddVariableOp(resource=handle, value=tf.constant(1.0))
  with tf.control_dependencies([add]):
    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
  return value + tf.zeros_like(x)


def _stateful_loop(x):
  return tf.while_loop(
    lambda i, _: i < 3,
    lambda i, y: (i + 1, y * tf.random.uniform(tf.shape(y), 0.5, 1.5)),
    (0, tf.ones_like(x)),
  )[1]


NOISES = {
  'numpy': _numpy,
  'random': lambda x: tf.random.uniform(tf.shape(x)),
  'counter': _counter,
  'loop': _stateful_loop,
}


class NoisyLayer(declared.Layer):
  PARAMS = {'noise': ''}

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w', py_utils.WeightParams([3], py_utils.WeightInit.Constant(0.7))
    )

  def FProp(self, theta, x):
    y = tf.tanh(x * theta.w)
    noise = NOISES[self.params.noise](y)
    # Its gradient reads the noise itself, and what is computed of it.
    return y * tf.sin(noise), noise


_X = np.linspace(-2, 2, 12).reshape(4, 3).astype(np.float32)


@pytest.mark.parametrize('recompute', ['always', 'never'])
@pytest.mark.parametrize('noise', sorted(NOISES))
def test_the_gradient_is_that_of_the_pass_that_ran(noise, recompute):
  cell = NoisyLayer.Params().Set(name='cell', noise=noise)
  net = tiny_pipeline.pipeline([], num_micro_batches=2, recompute=recompute)

  def build():
    layer = net.Set(cell_tpl=[cell]).Instantiate()
    y, seen = layer.FProp(layer.theta, tf.constant(_X))
    [gradient] = tf.gradients(y, layer.vars.Flatten())
    counters = [v for v in tf.global_variables() if v.op.name == 'count']
    with tf.control_dependencies([gradient]):
      return seen, gradient, [v.read_value() for v in counters]

  seen, got, counts = tiny_pipeline.run(build)
  expected = (np.sin(seen) * _X / np.cosh(0.7 * _X) ** 2).sum(axis=0)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
  # Side effects happen once a micro-batch.
  assert counts == ([2] if noise == 'counter' else [])


class Random(declared.Layer):
  PARAMS = {'fn': None}

  def FProp(self, theta, x):
    return x + self.params.fn(x, self)


def _seeded(x, layer):
  return tf.random.stateless_uniform(
    [2], py_utils.GenerateStepSeedPair(layer.params)
  )


def _seeded_in_function(x, layer):
  seeds = py_utils.GenerateStepSeedPair(layer.params)
  return py_utils.CallDefun(
    lambda pair: tf.random.stateless_uniform([2], pair[1]), (x, seeds)
  )


def _in_second_loop(x, layer):
  """A loop of Lingvo's leaves a step seed made of its name.

  So the first draws from the step seed of the layer, the second does not.
  """

  def cell(theta, state, inputs):
    del theta, inputs
    seeds = py_utils.GenerateStepSeedPair(layer.params)
    y = py_utils.DeterministicDropout(state.x, keep_prob=0.5, seeds=seeds)
    return py_utils.NestedMap(x=y), py_utils.NestedMap()

  for _ in range(2):
    state = py_utils.NestedMap(x=x)
    steps = py_utils.NestedMap(t=tf.zeros([2]))
    x = recurrent.Recurrent(py_utils.NestedMap(), state, steps, cell)[1].x
  return x


@pytest.mark.parametrize(
  ('fn', 'is_fine'),
  [
    (_seeded, True),
    (_seeded_in_function, True),
    (_in_second_loop, False),
    (lambda x, layer: tf.random.stateless_uniform([2], [1, 2]), False),
    # Its argument depends on the layer's seed, its own seed does not.
    (
      lambda x, layer: py_utils.CallDefun(
        lambda y: y + tf.random.stateless_uniform([2], [1, 2]),
        x * _seeded(x, layer),
      ),
      False,
    ),
    # A shape, or a number drawn before, says nothing of the seed.
    (
      lambda x, layer: tf.random.stateless_normal(
        tf.shape(_seeded(x, layer)), [1, 2]
      ),
      False,
    ),
    (
      lambda x, layer: tf.random.stateless_uniform(
        [2], [1, 2], maxval=_seeded(x, layer)
      ),
      False,
    ),
  ],
)
def test_seeds_that_all_micro_batches_share_are_refused(fn, is_fine):
  layer = Random.Params().Set(name='layer', fn=fn)
  expected = contextlib.nullcontext()
  if not is_fine:
    expected = tiny_pipeline.refused(
      r'Layer net\.d0\.layer \(Random\)', 'do not depend on the micro-batch'
    )
  with pt.graph(1):
    net = tiny_pipeline.pipeline([layer], 1).Instantiate()
    with expected:
      net.FPropDefaultTheta(tf.ones([8, 2]))
