# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each layer's step seeds for each micro-batch: ranges that never meet."""

import gc

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils
from tensorflow.python.eager import context

from lingvo_gpipe.engine.micro_batches import Context
from lingvo_gpipe.pipeline import seeds


def _context(micro_batch, seed=0):
  return Context(
    *(tf.constant(x, tf.int64) for x in (100, seed, micro_batch, 1, 4))
  )


def _seeds(paths, micro_batch, seed=0, draws=2):
  """The seeds that each layer of a cell draws, in order."""
  drawn = []
  numbers = {'a': 0, 'b': 1, 'c': 2**20}
  with seeds.layer_scope(_context(micro_batch, seed), numbers):
    for path in paths:
      with seeds.in_layer(path):
        drawn.append([py_utils.GetIncStepSeed() for _ in range(draws)])
  with tf.Session() as sess:
    return np.array(sess.run(drawn))


def test_layers_micro_batches_and_ops_have_seeds_of_their_own():
  found = np.concatenate(
    [
      _seeds(['a', 'b', 'c'], m, seed, draws=3)
      for m in (0, 1, 2**24 - 1)
      # Steps of the seed around, as other random ops outside make them.
      for seed in (0, 2**15)
    ]
  )
  assert len(np.unique(found)) == found.size == 54


def test_layers_without_a_number_go_on_with_the_seeds_in_force():
  inner = _seeds(['a', 'a.inner'], 0)
  np.testing.assert_array_equal(inner.ravel(), inner[0, 0] + np.arange(4))


def test_the_seed_around_moves_on_and_dies_with_its_graph():
  with tf.Graph().as_default() as dropped:
    first = py_utils.GetIncStepSeed()
    tensors = [first, seeds.next_seed(), py_utils.GetIncStepSeed()]
    with tf.Session() as sess:
      assert sess.run(tensors) == [0, 1, 2]
    key = id(dropped)
    assert key in py_utils._STEP_SEED_DICT.dict
  del dropped, first, tensors, sess
  gc.collect()
  assert key not in py_utils._STEP_SEED_DICT.dict


def test_an_eager_seed_is_kept(graph):
  py_utils.ResetStepSeed(4)
  seeds.next_seed()
  with context.eager_mode():
    eager = tf.constant(7, tf.int64)
  py_utils._STEP_SEED_DICT.dict[id(graph)] = eager
  del eager
  assert py_utils.GetStepSeed().numpy() == 7
  del py_utils._STEP_SEED_DICT.dict[id(graph)]  # Of this id may be others.


def test_seeds_on_tpu_fit_int32(monkeypatch):
  monkeypatch.setattr(py_utils, 'use_tpu', lambda: True)
  with seeds.layer_scope(_context(2**11 - 1), {'last': 2**13 - 2}):
    with seeds.in_layer('last'):
      seed = py_utils.GetIncStepSeed()
    with tf.Session() as sess:
      # All bits of the layer and the micro-batch; those of the op are left.
      assert sess.run(seed) == 2**31 - 2**7
