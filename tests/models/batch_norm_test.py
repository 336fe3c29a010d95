# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import bn_layers, py_utils

from lingvo_gpipe.models import batch_norm

_SHAPE = [6, 5, 4, 3]


def _inputs():
  random = np.random.RandomState(0)
  return (random.randn(*_SHAPE) * [1.0, 3.0, 0.1] + [5.0, -1.0, 0.0]).astype(
    np.float32
  )


def _results(layer_class, do_eval, **params):
  """Variables; output, gradients and moving averages after one update."""
  with layer_testing.graph_session(do_eval) as session:
    layer = layer_testing.make(layer_class, dim=3, decay=0.75, **params)
    inputs = tf.constant(_inputs())
    outputs = layer.FPropDefaultTheta(inputs)
    weights = [
      v for v in layer.vars.Flatten() if v.name.split('/')[-2] in 'beta gamma'
    ]
    changed = [
      v.assign_add(tf.range(1.0, 4.0) * 0.1) for v in layer.vars.Flatten()
    ]
    coefficients = np.random.RandomState(1).randn(*_SHAPE).astype(np.float32)
    loss = tf.reduce_sum(outputs * coefficients)
    gradients = tf.gradients(loss, [inputs, *weights])
    # A task makes those that it finds the loss to depend on.
    updates, left_out = py_utils.FindRelevantBatchNormUpdates(
      loss, tf.get_collection(py_utils.BATCH_NORM_UPDATES)
    )
    assert not left_out
    session.run(tf.global_variables_initializer())
    session.run(changed)
    result = session.run([outputs, *[g for g in gradients if g is not None]])
    session.run(updates)
    averages = [layer.vars.moving_mean, layer.vars.moving_variance]
    names = [(v.name, v.trainable) for v in layer.vars.Flatten()]
    return names, [*result, *session.run(averages)]


@pytest.mark.parametrize('do_eval', [False, True])
@pytest.mark.parametrize(
  'params', [{}, {'gamma_one_init': True}, {'freeze_bn_stats': True}]
)
def test_equals_lingvos_batch_norm(do_eval, params):
  our_names, ours = _results(batch_norm.FusedBatchNormLayer, do_eval, **params)
  names, lingvos = _results(bn_layers.BatchNormLayer, do_eval, **params)
  assert our_names == names
  assert len(ours) == len(lingvos) == 6
  for got, want in zip(ours, lingvos, strict=True):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_statistics_of_bfloat16_activations_are_float32():
  with layer_testing.graph_session() as session:
    layer = layer_testing.make(
      batch_norm.FusedBatchNormLayer, dim=3, fprop_dtype=tf.bfloat16
    )
    outputs = layer.FPropDefaultTheta(tf.constant(_inputs()))
    assert outputs.dtype == tf.bfloat16
    values = layer_testing.run(session, tf.cast(outputs, tf.float32))
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0.0, atol=0.02)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1.0, atol=0.1)


def test_refuses_paddings():
  with layer_testing.graph_session():
    layer = layer_testing.make(batch_norm.FusedBatchNormLayer, dim=3)
    with pytest.raises(ValueError, match='paddings'):
      layer.FPropDefaultTheta(tf.zeros(_SHAPE), tf.zeros([6, 5, 4, 1]))
