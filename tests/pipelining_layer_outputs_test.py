# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the last cell returns is joined as in the plain model, or refused."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import layers

WIDTH = tiny_pipeline.WIDTH


def _pipeline(layer_class, **kwargs):
  subs = [*tiny_pipeline.linear('l0'), layer_class.Params().Set(name='last')]
  return tiny_pipeline.pipeline(subs, **kwargs)


def _assert_like_plain(params, shape=(8, WIDTH), do_eval=False):
  """Asserts that outputs and gradients are those of the layers alone."""

  def build():
    layer = params.Instantiate()
    x = tf.random.stateless_normal(shape, [1, 2])
    results = []
    for outputs in (
      layer.FProp(layer.theta, x),
      tiny_pipeline.unpipelined(layer, x),
    ):
      loss = tf.add_n(
        [tf.reduce_sum(tf.sin(y)) for y in tf.nest.flatten(outputs)]
      )
      gradients = []
      if not do_eval:
        gradients = tf.gradients(loss, [*layer.vars.Flatten(), x])
      results.append([*tf.nest.flatten(outputs), *gradients])
    return results

  got, plain = tiny_pipeline.run(build, num_devices=2, do_eval=do_eval)
  for a, b in zip(got, plain, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _assert_refused(params, *messages, shape=(8, WIDTH), do_eval=False):
  def build():
    layer = params.Instantiate()
    return layer.FProp(layer.theta, tf.ones(shape))

  with pytest.raises(ValueError, match='(?s)' + '.*'.join(messages)):
    tiny_pipeline.run(build, do_eval=do_eval)


class Mean(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return super().FProp(theta, x), tf.reduce_mean(x, axis=0)


@pytest.mark.parametrize('do_eval', [False, True])
@pytest.mark.parametrize(
  ('batch', 'num_micro_batches'),
  # Micro-batches of as many examples as the mean has numbers; and of two sizes.
  [(WIDTH * 4, 4), (8, 4), (7, 2)],
)
def test_a_mean_over_the_batch_is_refused(batch, num_micro_batches, do_eval):
  _assert_refused(
    _pipeline(Mean, num_micro_batches=num_micro_batches),
    r'net: outputs\[1\] of the last cell does not have one value',
    r'\(3,\) for',
    'num_micro_batches to 1',
    shape=(batch, WIDTH),
    do_eval=do_eval,
  )


def test_with_one_micro_batch_it_is_that_of_the_mini_batch():
  _assert_like_plain(_pipeline(Mean, num_micro_batches=1))


class Similarity(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return tf.matmul(x, x, transpose_b=True)


class OneMore(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return tf.concat([x[:1], x], axis=0)


@pytest.mark.parametrize(
  ('layer_class', 'message'),
  [
    (Similarity, r'dimensions \[0, 1\] all grow'),
    (OneMore, 'dimension 0 is not a multiple of the number of examples'),
  ],
)
def test_what_is_not_of_single_examples_is_refused(layer_class, message):
  _assert_refused(_pipeline(layer_class), 'net: outputs of the last', message)


class Recurrent(tiny_pipeline.Linear):
  """Of [time, batch, WIDTH]; returns all states and the last."""

  def FProp(self, theta, x):
    state, states = tf.zeros_like(x[0]), []
    for inputs in tf.unstack(x):
      state = tf.tanh(inputs + tf.matmul(state, theta.w))
      states.append(state)
    return tf.stack(states), state


@pytest.mark.parametrize('num_micro_batches', [2, 3, 4])
@pytest.mark.parametrize('do_eval', [False, True])
def test_a_final_state_is_joined_by_examples(num_micro_batches, do_eval):
  subs = [Recurrent.Params().Set(name='last')]
  params = tiny_pipeline.pipeline(subs, 1, num_micro_batches, batch_dim=1)
  _assert_like_plain(params, (5, 6, WIDTH), do_eval)


class Rows(tiny_pipeline.Linear):
  """Of [batch, 2, WIDTH]; returns two rows for each example."""

  def FProp(self, theta, x):
    return tf.matmul(tf.reshape(x, [-1, WIDTH]), theta.w)


class SomeRows(tiny_pipeline.Linear):
  """Returns as many rows as there are positive numbers in column 0."""

  def FProp(self, theta, x):
    x = tf.matmul(tf.reshape(x, [-1, WIDTH]), theta.w)
    return tf.boolean_mask(x, x[:, 0] > 0)


@pytest.mark.parametrize('layer_class', [Rows, SomeRows])
@pytest.mark.parametrize('num_micro_batches', [2, 3])
def test_several_rows_for_each_example(layer_class, num_micro_batches):
  subs = [layer_class.Params().Set(name='last')]
  params = tiny_pipeline.pipeline(subs, 1, num_micro_batches)
  _assert_like_plain(params, (6, 2, WIDTH))


def test_unknown_batches():
  def build(layer_class, x):
    layer = _pipeline(layer_class).Instantiate()
    return layer.FProp(layer.theta, x), tiny_pipeline.unpipelined(layer, x)

  def data():
    x = tf.constant(tiny_pipeline.inputs())
    return tf.placeholder_with_default(x, [None, WIDTH])

  got, plain = tiny_pipeline.run(
    lambda: build(tiny_pipeline.Linear, data()), num_devices=2
  )
  np.testing.assert_allclose(got, plain, rtol=1e-5)
  with pytest.raises(
    ValueError, match=r'outputs\[1\] .* \(3,\) for any number'
  ):
    tiny_pipeline.run(lambda: build(Mean, data()))


class OfTwo(tiny_pipeline.Linear):
  """Runs for two examples only."""

  def FProp(self, theta, x):
    return super().FProp(theta, tf.ensure_shape(x, [2, WIDTH]))


def test_a_cell_for_one_size_only_is_joined_with_a_warning(caplog):
  with caplog.at_level('WARNING'):
    got = tiny_pipeline.run(
      lambda: _pipeline(OfTwo).Instantiate().FPropDefaultTheta(tf.ones([8, 3]))
    )
  assert got.shape == (8, WIDTH)
  assert 'can be traced for micro-batches of 2 examples, but not of 10' in (
    caplog.text
  )


def test_a_fetched_mean_is_refused():
  mean = Mean.Params().Set(name='mean')
  fetch = layers.FetchLayer.Params().Set(name='fetch')
  _assert_refused(
    tiny_pipeline.pipeline([mean, fetch], 1),
    r'net: what net\.d0\.fetch fetches does not have one value',
  )
