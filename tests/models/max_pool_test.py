# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import lingvo.compat as tf
import numpy as np
import pytest

from lingvo_gpipe.models import max_pool


@pytest.mark.parametrize(('window', 'stride'), [(3, 1), (2, 2), (3, 2)])
def test_values_and_gradients_are_those_of_tensorflow(window, stride):
  random = np.random.RandomState(1)
  with layer_testing.graph_session() as session:
    images = tf.constant(random.randn(2, 7, 6, 3), tf.float32)
    ours = max_pool.max_pool(images, window, stride)
    theirs = tf.nn.max_pool2d(images, window, stride, 'SAME')
    factors = tf.constant(random.randn(*ours.shape), tf.float32)
    results = [
      (pooled, tf.gradients(pooled * factors, images)[0])
      for pooled in (ours, theirs)
    ]
    (ours, d_ours), (theirs, d_theirs) = session.run(results)
  np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_allclose(d_ours, d_theirs, rtol=1e-5, atol=1e-6)
  assert np.abs(d_ours).max() > 0


def test_the_gradient_reads_the_input_alone():
  with layer_testing.graph_session():
    images = tf.placeholder(tf.float32, [1, 4, 4, 1])
    pooled = max_pool.max_pool(images, 3, 1)
    gradient = tf.gradients(pooled, images)[0]
  _, again, _ = gradient.op.inputs
  assert gradient.op.type == 'MaxPoolGrad'
  assert again.op.type == 'MaxPool'
  assert again.op is not pooled.op
