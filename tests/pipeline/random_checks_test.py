# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ops that cannot be repeated, or draw equal masks, are found."""

import declared
import lingvo.compat as tf
import pytest
from lingvo.core import layers as lingvo_layers
from lingvo.core import py_utils

from lingvo_gpipe.engine import cell_function, graph_walks
from lingvo_gpipe.pipeline import random_checks, seeds
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell


@pytest.fixture(autouse=True)
def global_step(graph):
  py_utils.GetOrCreateGlobalStepVar()


class Random(declared.Layer):
  """Returns x plus what a function of x and the layer makes."""

  PARAMS = {'fn': None, 'dropout_tpl': None}

  def FProp(self, theta, x):
    return x + self.params.fn(x, self)


def _traced(fn, **params):
  """A cell of one layer, and it traced."""
  layer = Random.Params().Set(name='layer', fn=fn, **params).Instantiate()
  cell = LingvoCell(
    'd0',
    [layer],
    [layer.theta],
    lambda theta, given: _fprop(layer, theta[0], given.inputs),
    {layer.path: 0},
    collect_aux_losses=False,
  )
  function = cell_function.CellFunction(
    'd0', cell.body, tf.TensorSpec([2], tf.float32), None, cell.weights, ()
  )
  return cell, function


def _unseeded(function):
  return graph_walks.unseeded(function.graph, function.notes.seed_ops)


def _explained(cell, function):
  culprits = graph_walks.unrepeatable(function.graph)
  return random_checks.explain(cell, function, culprits)


def _fprop(layer, theta, inputs):
  with seeds.in_layer(layer.path):
    return cell_function.CellOutputs(layer.FProp(theta, inputs))


def _seeded(x, layer):
  return tf.random.stateless_uniform(
    [2], py_utils.GenerateStepSeedPair(layer.params)
  )


def _in_defun(fn):
  """The same in a function that the cell calls."""

  def calls(x, layer):
    seeds = py_utils.GenerateStepSeedPair(layer.params)
    return py_utils.CallDefun(lambda pair: fn(*pair), (x, seeds))

  return calls


@pytest.mark.parametrize(
  'fn',
  [
    lambda x, layer: tf.tanh(x),
    _seeded,
    _in_defun(lambda x, seeds: tf.random.stateless_uniform([2], seeds)),
  ],
)
def test_layers_that_do_it_right_pass(fn):
  _, function = _traced(fn)
  assert _unseeded(function) is None
  assert not graph_walks.unrepeatable(function.graph)


@pytest.mark.parametrize(
  'fn',
  [
    lambda x, layer: tf.random.uniform([2]),
    lambda x, layer: tf.random.normal([2]),
    lambda x, layer: tf.nn.dropout(x, rate=0.5),
    lambda x, layer: tf.random.shuffle(x),
    _in_defun(lambda x, seeds: tf.random.uniform([2])),
  ],
)
def test_layers_whose_random_numbers_cannot_be_repeated_are_named(fn):
  found = _explained(*_traced(fn))
  assert list(found) == ['layer']
  assert 'layer layer (Random) uses' in found['layer']
  assert 'GenerateStepSeedPair' in found['layer']


def test_templates_of_stateful_dropout_are_named():
  found = _explained(
    *_traced(
      lambda x, layer: tf.random.uniform([2]),
      dropout_tpl=lingvo_layers.DropoutLayer.Params(),
    )
  )
  assert 'set layer.params.dropout_tpl to lingvo.core.layers' in found['layer']


@pytest.mark.parametrize(
  'fn',
  [
    lambda x, layer: tf.random.stateless_uniform([2], [1, 2]),
    lambda x, layer: py_utils.CallDefun(
      lambda x: x + tf.random.stateless_uniform([2], [1, 2]), x
    ),
    # Its argument depends on the layer's seed, its own seed does not.
    lambda x, layer: py_utils.CallDefun(
      lambda y: y + tf.random.stateless_uniform([2], [1, 2]),
      x * _seeded(x, layer),
    ),
    # A shape, or a number drawn before, says nothing of the seed.
    lambda x, layer: tf.random.stateless_normal(
      tf.shape(_seeded(x, layer)), [1, 2]
    ),
    lambda x, layer: tf.random.stateless_uniform(
      [2], [1, 2], maxval=_seeded(x, layer)
    ),
  ],
)
def test_seeds_that_all_micro_batches_share_are_refused(fn):
  cell, function = _traced(fn)
  with pytest.raises(
    ValueError,
    match=r'Layer layer \(Random\).*do not depend on the micro-batch',
  ):
    random_checks.refuse_unseeded(cell, function, _unseeded(function))
