# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the last cell returns is joined as in the plain model, or refused."""

import lingvo.compat as tf
import pytest
import tiny_pipeline
from lingvo.core import layers

WIDTH = tiny_pipeline.WIDTH


def _pipeline(cls, num_micro_batches=4, *behind, **kwargs):
  first = tiny_pipeline.linear('l0')
  if kwargs.get('batch_dim') or cls in (Rows, SomeRows):
    first = []
  last = cls.Params().Set(name='last')
  return tiny_pipeline.pipeline(
    [*first, last, *behind], 1, num_micro_batches, **kwargs
  )


class Mean(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return super().FProp(theta, x), tf.reduce_mean(x, axis=0)


class FinalState(tiny_pipeline.Linear):
  """Of [time, batch, WIDTH]; returns all states and the last."""

  def FProp(self, theta, x):
    state, states = tf.zeros_like(x[0]), []
    for inputs in tf.unstack(x):
      state = tf.tanh(inputs + tf.matmul(state, theta.w))
      states.append(state)
    return tf.stack(states), state


class Rows(tiny_pipeline.Linear):
  """Of [batch, 2, WIDTH]; returns two rows for each example."""

  def FProp(self, theta, x):
    return tf.matmul(tf.reshape(x, [-1, WIDTH]), theta.w)


class SomeRows(tiny_pipeline.Linear):
  """Returns as many rows as there are positive numbers in column 0."""

  def FProp(self, theta, x):
    x = tf.matmul(tf.reshape(x, [-1, WIDTH]), theta.w)
    return tf.boolean_mask(x, x[:, 0] > 0)


@pytest.mark.parametrize('do_eval', [False, True])
@pytest.mark.parametrize(
  ('cls', 'num_micro_batches', 'shape', 'kwargs'),
  [
    (Mean, 1, (8, WIDTH), {}),  # That of the mini-batch.
    *[(FinalState, m, (5, 6, WIDTH), {'batch_dim': 1}) for m in (2, 3, 4)],
    *[(Rows, m, (6, 2, WIDTH), {}) for m in (2, 3)],
    *[(SomeRows, m, (6, 2, WIDTH), {}) for m in (2, 3)],
  ],
)
def test_outputs_and_gradients_are_those_of_the_plain_layers(
  cls, num_micro_batches, shape, kwargs, do_eval
):
  def build():
    layer = _pipeline(cls, num_micro_batches, **kwargs).Instantiate()
    x = tf.random.stateless_normal(shape, [1, 2])

    def results():
      outputs = tf.nest.flatten(layer.FProp(layer.theta, x))
      loss = tf.add_n([tf.reduce_sum(tf.sin(y)) for y in outputs])
      sources = [] if do_eval else [*layer.vars.Flatten(), x]
      return [*outputs, *tf.gradients(loss, sources)]

    return tiny_pipeline.beside_plain(results)

  tiny_pipeline.assert_close(*tiny_pipeline.run(build, do_eval=do_eval), 1e-4)


class Similarity(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return tf.matmul(x, x, transpose_b=True)


class OneMore(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return tf.concat([x[:1], x], axis=0)


_MEAN = (
  r'net: outputs\[1\] of the last cell does not have one value.*\(3,\) for.*'
  'num_micro_batches to 1'
)


@pytest.mark.parametrize('do_eval', [False, True])
@pytest.mark.parametrize(
  ('params', 'batch', 'message'),
  [
    # Micro-batches of as many examples as the mean has numbers; of two sizes.
    (_pipeline(Mean, 4), WIDTH * 4, _MEAN),
    (_pipeline(Mean, 4), 8, _MEAN),
    (_pipeline(Mean, 2), 7, _MEAN),
    (_pipeline(Mean), None, r'outputs\[1\] .* \(3,\) for any number'),
    (
      _pipeline(Similarity),
      8,
      r'net: outputs of the last .*dimensions \[0, 1\] all grow',
    ),
    (
      _pipeline(OneMore),
      8,
      'dimension 0 is not a multiple of the number of examples',
    ),
    (
      _pipeline(Mean, 4, layers.FetchLayer.Params().Set(name='fetch')),
      8,
      r'net: what net\.d0\.fetch fetches does not have one value',
    ),
  ],
)
def test_what_is_not_of_single_examples_is_refused(
  params, batch, message, do_eval
):
  def build():
    x = tf.ones([batch or 8, WIDTH])
    if batch is None:
      x = tf.placeholder_with_default(x, [None, WIDTH])
    return params.Instantiate().FPropDefaultTheta(x)

  with pytest.raises(ValueError, match=f'(?s){message}'):
    tiny_pipeline.run(build, do_eval=do_eval)


class OfTwo(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return super().FProp(theta, tf.ensure_shape(x, [2, WIDTH]))


def test_a_cell_for_one_size_only_is_joined_with_a_warning(caplog):
  with caplog.at_level('WARNING'):
    got = tiny_pipeline.outputs(_pipeline(OfTwo), tiny_pipeline.inputs())
  assert got.shape == (8, WIDTH)
  assert 'can be traced for micro-batches of 2 examples, but not of 10' in (
    caplog.text
  )
