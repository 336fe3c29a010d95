# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Recomputation gives the gradient of the pass that ran, whatever ran in it."""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import pipelining_layer

_calls = []


def _noise(x):
  _calls.append(1)
  return (
    np.random.RandomState(len(_calls))
    .uniform(0.5, 1.5, x.shape)
    .astype(np.float32)
  )


def _numpy(x):
  noise = tf.numpy_function(_noise, [x], tf.float32)
  noise.set_shape(x.shape)
  return noise


def _generator(x):
  state = tf.get_variable(
    'rng',
    initializer=lambda: np.zeros([3], np.int64),
    use_resource=True,
    trainable=False,
  )
  generator = tf.random.Generator.from_state(state, alg='philox')
  return generator.uniform(tf.shape(x))


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
  'generator': _generator,
  'counter': _counter,
  'loop': _stateful_loop,
  'time': lambda x: (
    tf.zeros_like(x) + tf.cast(tf.timestamp() * 1e3 % 7.0, tf.float32)
  ),
}


class Noisy(base_layer.BaseLayer):
  """tanh(x w) times a noise, which it shows as an output."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('noise', None, 'Maps a tensor to noise of its shape.')
    return p

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    self.CreateVariable(
      'w', py_utils.WeightParams([3], py_utils.WeightInit.Constant(0.7))
    )

  def FProp(self, theta, x):
    y = tf.tanh(x * theta.w)
    noise = NOISES[self.params.noise](y)
    # Its gradient reads the noise itself, and what is computed of it.
    return y * tf.sin(noise), noise


def _pipeline(noise, recompute):
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='net',
    num_micro_batches=2,
    recompute=recompute,
    cell_tpl=[Noisy.Params().Set(name='cell', noise=noise)],
  )


@pytest.mark.parametrize('recompute', ['always', 'never'])
@pytest.mark.parametrize('noise', sorted(NOISES))
def test_the_gradient_is_that_of_the_pass_that_ran(noise, recompute):
  x = np.linspace(-2, 2, 12).reshape(4, 3).astype(np.float32)
  with pt.cluster(1), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = _pipeline(noise, recompute).Instantiate()
    y, seen = layer.FProp(layer.theta, tf.constant(x))
    [got] = tf.gradients(tf.reduce_sum(y), layer.vars.Flatten())
    with pt.session(1, graph) as sess:
      sess.run(tf.global_variables_initializer())
      got, seen = sess.run((got, seen))
  expected = (np.sin(seen) * x / np.cosh(0.7 * x) ** 2).sum(axis=0)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_side_effects_happen_once_a_micro_batch():
  with pt.cluster(1), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = _pipeline('counter', 'always').Instantiate()
    y, _ = layer.FProp(layer.theta, tf.ones([4, 3]))
    gradients = tf.gradients(tf.reduce_sum(y), layer.vars.Flatten())
    [count] = [v for v in tf.global_variables() if v.op.name == 'count']
    with pt.session(1, graph) as sess:
      sess.run(tf.global_variables_initializer())
      sess.run(gradients)
      assert sess.run(count) == 2
