# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline's graph that is dropped is freed, with all that was made for it.

Objects are counted, not bytes: those say nothing sure of a small graph.
"""

import gc
import weakref

import lingvo.compat as tf
import pytest
import tiny_pipeline
from example_model import inside, outside
from example_models import MODELS
from lingvo.core import base_layer
from tensorflow.python.framework import ops


def _live():
  gc.collect()
  return {
    id(found): found
    for found in gc.get_objects()
    if issubclass(type(found), ops.Graph | base_layer.BaseLayer)
  }


@pytest.mark.parametrize(
  ('model', 'compute', 'of_inputs'),
  [
    # With gradients of the inputs there are further tasks.
    ('convolutions', inside, False),
    ('auxiliary loss', outside, False),
    ('auxiliary loss', inside, True),
  ],
)
def test_nothing_is_kept_of_a_dropped_graph(model, compute, of_inputs):
  model = MODELS[model]
  dropped = []

  def build():
    layer, batch = model.pipeline(2).Instantiate(), model.batch()
    dropped.extend(map(weakref.ref, (tf.get_default_graph(), layer)))
    sources = tf.trainable_variables()
    if of_inputs:
      sources.append(batch.inputs)
    return tf.gradients(compute(layer, batch)['loss'][0], sources)

  before = set(_live())
  tiny_pipeline.run(build, num_devices=2)
  kept = [found for i, found in _live().items() if i not in before]
  assert [ref() for ref in dropped] == [None, None]
  assert not kept
