# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo_gpipe  # noqa: F401, I001
import lingvo.compat as tf
import numpy as np
import pytest

from tools.benchmark import cases, lingvo_engine
from lingvo_gpipe.models import batch_norm

_LANGUAGE_MODEL = cases.TINY_CASES[2]


def test_cells_say_the_shapes_of_their_micro_batches():
  p = lingvo_engine.pipelining_params(_LANGUAGE_MODEL, [3], 2, 'net')
  [before] = p.before_tpl
  assert [layer.name for layer in before.sub] == ['embedding']
  assert [[layer.name for layer in cell.sub] for cell in p.cell_tpl] == [
    ['layer_0', 'layer_1'],
    ['softmax'],
  ]
  rows = _LANGUAGE_MODEL.batch // 2
  hidden = [rows, _LANGUAGE_MODEL.example_size, _LANGUAGE_MODEL.dim]
  assert before.out_shapes == p.cell_tpl[0].out_shapes == [hidden]
  [shape] = p.cell_tpl[1].cls.FPropMeta(p.cell_tpl[1], None).out_shapes
  assert shape.ToTensorShape().as_list()[:2] == hidden[:2]


def test_a_cell_that_the_embedding_leaves_empty_is_refused():
  with pytest.raises(ValueError, match='embedding'):
    lingvo_engine.pipelining_params(_LANGUAGE_MODEL, [1], 2, 'net')


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
