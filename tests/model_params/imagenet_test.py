# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the registered ImageNet models; nothing of them is built."""

import pytest
import tensorflow.compat.v1 as tf
from lingvo import model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe import sequential_layer
from model_params.image import imagenet

# K of Table 1 of arXiv:1811.06965, and of the announcement.
_CELLS = {
  'AmoebaNetD18x208': 1,
  'AmoebaNetD18x416': 1,
  'AmoebaNetD18x544': 2,
  'AmoebaNetD36x544': 4,
  'AmoebaNetD72x512': 8,
  'AmoebaNetB18x512': 4,
}


@pytest.mark.parametrize(
  'name', [*_CELLS, 'AmoebaNetD18x128', 'AmoebaNetD18x256']
)
def test_are_registered_with_the_papers_sizes(name):
  params = model_registry.GetParams(f'image.imagenet.{name}', 'Train')
  layers = params.task.pipeline.sub
  length, dim = name.removeprefix('AmoebaNet')[1:].split('x')
  assert len(layers) == int(length) + 6
  assert layers[3].dim == int(dim)
  if name in _CELLS:
    assert params.task.pipeline.num_partitions == _CELLS[name]
  size = 480 if 'B18' in name else 224
  assert params.input.image_size == size
  assert f',{size},{size},3]' in params.task.pipeline.input_shapes
  assert params.input.batch_size == 128


def test_test_and_training_data_differ():
  train, test = (
    model_registry.GetParams('image.imagenet.AmoebaNetD18x208', split).input
    for split in ('Train', 'Test')
  )
  assert train.training and not test.training


def test_the_cut_of_a_model_can_be_planned_without_building_it():
  p = imagenet.AmoebaNetD18x544().Task().pipeline.Copy()
  # Parameters stand in for FLOPs, which take longer to count.
  plan = sequential_layer.GPipeSequentialLayer.Plan(
    p.Set(name='net', balance='params', input_shapes=''), 2
  )
  table = plan.table()
  assert sum(row.parameters for row in table.rows) == 542_734_840
  assert table.imbalance < 1.2


def test_the_learning_rate_warms_up_and_then_falls():
  tp = imagenet.AmoebaNetD18x208().Task().train
  epoch = 1281167 / 128
  with tf.Graph().as_default(), tf.Session() as session:
    lr_schedule = tp.lr_schedule.Set(name='lr').Instantiate()
    step = tf.placeholder(tf.int64, [])
    value = lr_schedule.Value(step)

    def at(epochs):
      rate = session.run(value, {step: round(epochs * epoch)})
      return rate * tp.learning_rate

    assert at(0) == pytest.approx(0, abs=1e-6)
    assert at(1.5) == pytest.approx(0.03, rel=1e-3)
    assert at(3) == pytest.approx(0.06, rel=1e-3)
    assert at(5.4) == pytest.approx(0.06 * 0.97, rel=1e-3)
    assert at(100) == pytest.approx(0.06 * 0.97 ** (97 / 2.4), rel=1e-3)
