# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline's graph that is dropped is freed, with all that was made for it.

Objects are counted, not bytes: those say nothing sure of a small graph.
"""

import gc
import weakref

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import base_layer
from tensorflow.python.framework import ops


def _loss_inside():
  examples = pt.data()
  layer = pt.pipeline_params(2).Instantiate()
  metrics = layer.ComputeLoss(layer.theta, examples.inputs, examples.targets)
  return layer, metrics.loss[0], []


def _loss_outside():
  layer = tiny_pipeline.pipeline(tiny_pipeline.linear('a', 'b')).Instantiate()
  outputs = layer.FProp(layer.theta, tf.constant(tiny_pipeline.inputs()))
  return layer, tf.reduce_sum(outputs), []


def _extra_tasks_for_inputs():
  layer = tiny_pipeline.with_loss(tiny_pipeline.linear('a', 'b')).Instantiate()
  x = tf.constant(tiny_pipeline.inputs())
  return layer, layer.ComputeLoss(layer.theta, x, tf.zeros_like(x)).loss[0], [x]


def _live():
  """All graphs and layers that there are, by id."""
  gc.collect()
  return {
    id(found): found
    for found in gc.get_objects()
    if issubclass(type(found), ops.Graph | base_layer.BaseLayer)
  }


@pytest.mark.parametrize(
  'build', [_loss_inside, _loss_outside, _extra_tasks_for_inputs]
)
def test_nothing_is_kept_of_a_dropped_graph(build):
  dropped = []

  def build_gradients():
    layer, loss, inputs = build()
    dropped.extend(map(weakref.ref, (tf.get_default_graph(), layer)))
    return tf.gradients(loss, [*tf.trainable_variables(), *inputs])

  before = set(_live())
  tiny_pipeline.run(build_gradients, num_devices=2)
  kept = [found for i, found in _live().items() if i not in before]
  assert [ref() for ref in dropped] == [None, None]
  assert not kept
