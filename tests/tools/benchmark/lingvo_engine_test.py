# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
import pytest

from lingvo_gpipe.models import batch_norm
from tools.benchmark import cases, lingvo_engine

_LANGUAGE_MODEL = cases.TINY_CASES[2]


def test_a_cell_that_the_embedding_leaves_empty_is_refused():
  with pytest.raises(ValueError, match='embedding'):
    lingvo_engine.pipelining_params(_LANGUAGE_MODEL, [1], 'net')


def test_batch_norm_without_averages_trains_alike():
  values = np.random.RandomState(1).randn(2, 3, 3, 4).astype(np.float32)
  found = []
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for cls in (
      batch_norm.FusedBatchNormLayer,
      lingvo_engine.BatchNormOfTheBatch,
    ):
      layer = cls.Params().Set(name=cls.__name__, dim=4).Instantiate()
      outputs = layer.FPropDefaultTheta(tf.constant(values))
      session.run(tf.global_variables_initializer())
      found.append(session.run(outputs))
  np.testing.assert_allclose(*found)
