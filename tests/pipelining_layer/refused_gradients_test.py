# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients that a pipeline does not have are an error, and never lost."""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from example_model import Batch, inside, outside
from lingvo.core import layers

from lingvo_gpipe.pipeline import plain_run


def _layers():
  first, last = tiny_pipeline.linear('first', 'last')
  return [first, layers.FetchLayer.Params().Set(name='fetch'), last]


def _fetched(layer):
  return tiny_pipeline.subs_of(layer)['fetch'].activation


def _build(compute, num_cells):
  layer = tiny_pipeline.with_loss(_layers(), num_cells).Instantiate()
  x = tf.constant(tiny_pipeline.inputs())
  loss, _ = compute(layer, Batch(x, tf.zeros_like(x)))['loss']
  return layer, x, loss


def _penalty(loss, by):
  return tf.add_n([tf.reduce_sum(g * g) for g in tf.gradients(loss, by)])


_REFUSED = 'A gradient is to go through .*second-order.*FetchLayer.*evaluation'


@pytest.mark.parametrize('num_cells', [1, 2])
@pytest.mark.parametrize('compute', [outside, inside])
@pytest.mark.parametrize('of', ['inputs', 'weights'])
def test_gradients_of_gradients_are_refused(compute, of, num_cells):
  with pt.graph(1):
    layer, x, loss = _build(compute, num_cells)
    variables = layer.vars.Flatten()
    penalty = _penalty(loss, x if of == 'inputs' else variables)
    with pytest.raises(ValueError, match=_REFUSED):
      tf.gradients(penalty, variables)


def test_the_norm_of_gradients_is_no_gradient_of_them():
  def norm():
    layer, _, loss = _build(inside, 2)
    norm = _penalty(loss, layer.vars.Flatten())
    total = loss + tf.stop_gradient(norm)
    return norm, tf.gradients(total, layer.vars.Flatten())

  norm, gradients = tiny_pipeline.run(norm)
  assert norm == pytest.approx(sum((g * g).sum() for g in gradients), rel=1e-5)


def test_without_the_pipeline_there_are_gradients_of_gradients():
  def second_order():
    with plain_run.without_pipeline():
      layer, _, loss = _build(inside, 2)
    variables = layer.vars.Flatten()
    return tf.gradients(_penalty(loss, variables), variables)

  for gradient in tiny_pipeline.run(second_order):
    assert np.linalg.norm(gradient) > 0.1


@pytest.mark.parametrize('num_cells', [1, 2])
@pytest.mark.parametrize('compute', [outside, inside])
def test_gradients_of_what_is_fetched_are_refused(compute, num_cells):
  def gradients(of):
    layer, _, loss = _build(compute, num_cells)
    fetched = tf.reduce_sum(tf.square(_fetched(layer)))
    return tf.gradients(of(fetched) + loss, layer.vars.Flatten())

  with pytest.raises(ValueError, match=_REFUSED):
    tiny_pipeline.run(lambda: gradients(tf.identity))
  for gradient in tiny_pipeline.run(lambda: gradients(tf.stop_gradient)):
    assert np.linalg.norm(gradient) > 0.1


def test_gradients_in_evaluation_are_refused():
  with pt.graph(1, do_eval=True):
    layer, _, loss = _build(outside, 2)
    with pytest.raises(ValueError, match=_REFUSED):
      tf.gradients(loss, layer.vars.Flatten())


def test_a_copied_graph_says_that_it_has_no_gradient():
  with pt.graph(1) as graph:
    _, x, loss = _build(outside, 2)
  with tf.Graph().as_default():
    loss, x = tf.import_graph_def(
      graph.as_graph_def(), return_elements=[loss.name, x.name]
    )
    with pytest.raises(ValueError, match='its graph was written out and read'):
      tf.gradients(loss, x)
