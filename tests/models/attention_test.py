# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.models import attention

_BATCH, _TIME, _DIM, _HEADS = 2, 7, 12, 3


def _layer(num_heads=_HEADS):
  return layer_testing.make(
    attention.CausalSelfAttention, model_dim=_DIM, num_heads=num_heads
  )


def _inputs(seed=1):
  return np.random.RandomState(seed).randn(_BATCH, _TIME, _DIM).astype('f')


def _by_loops(theta, inputs, segment_ids):
  """Attention as the paper has it, one token and head at a time."""
  size = _DIM // _HEADS
  joint = inputs @ theta.qkv.w + theta.qkv.b
  query, key, value = np.split(joint, 3, axis=-1)
  heads = np.zeros_like(inputs)
  for b in range(_BATCH):
    for t in range(_TIME):
      seen = [s for s in range(t + 1) if segment_ids[b, s] == segment_ids[b, t]]
      for h in range(_HEADS):
        part = slice(h * size, (h + 1) * size)
        scores = key[b, seen, part] @ query[b, t, part] / np.sqrt(size)
        weights = np.exp(scores - scores.max())
        heads[b, t, part] = weights / weights.sum() @ value[b, seen, part]
  return heads @ theta.output.w + theta.output.b


def test_equals_the_definition():
  segment_ids = np.int32([[1, 1, 1, 2, 2, 3, 0], [1, 1, 2, 2, 2, 2, 2]])
  with layer_testing.graph_session() as session:
    layer = _layer()
    outputs = layer.FPropDefaultTheta(
      tf.constant(_inputs()), tf.constant(segment_ids)
    )
    session.run(tf.global_variables_initializer())
    # Biases that do something.
    for variable in (layer.vars.qkv.b, layer.vars.output.b):
      session.run(variable.assign(tf.random_normal(variable.shape)))
    got, theta = session.run([outputs, layer.theta])
  want = _by_loops(theta, _inputs(), segment_ids)
  np.testing.assert_allclose(got, want, 1e-4, 1e-5)


@pytest.mark.parametrize('num_heads', [0, 5])
def test_refuses_heads_that_do_not_divide(num_heads):
  message = f'multiple of num_heads.*model_dim=12 and num_heads={num_heads}'
  with layer_testing.refused(message):
    _layer(num_heads)
