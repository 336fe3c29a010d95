# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Updates of moving averages: packed by micro-batch, applied together."""

import lingvo.compat as tf
import numpy as np
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.engine.cell_function import Context
from lingvo_gpipe.pipeline import moving_averages
from lingvo_gpipe.pipeline.variable_stand_in import MovingAverageUpdate


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def _variable(name, shape, dtype=tf.float32):
  return tf.get_variable(
    name,
    shape,
    dtype,
    initializer=tf.ones_initializer(),
    trainable=False,
    use_resource=True,
  )


def _context(size, batch):
  return Context(tf.constant([0, 0, 0, size, batch], tf.int64))


def _update(variable, delta, statistic):
  shape = variable.shape.as_list()
  fill = [
    tf.fill(shape, tf.cast(v, variable.dtype)) for v in (delta, statistic)
  ]
  return MovingAverageUpdate(variable, *fill)


def test_updates_are_the_mean_by_size_and_each_variable_gets_its_own():
  mean, variance = _variable('mean', [2]), _variable('variance', [3, 1])
  # Micro-batches of 3 and 1 examples.
  parts = [
    [_update(mean, 0.4, 1.0), _update(variance, 0.8, 2.0)],
    [_update(mean, 0.0, 5.0), _update(variance, -0.8, 6.0)],
  ]
  packed = [
    moving_averages.pack(part, _context(size, 4))
    for part, size in zip(parts, (3, 1), strict=True)
  ]
  statistics = moving_averages.update(parts[0], packed, '/cpu:0')
  collected = tf.get_collection(py_utils.BATCH_NORM_UPDATES)
  assert len(collected) == len(statistics) == 2
  relevant, others = py_utils.FindRelevantBatchNormUpdates(
    tf.reduce_sum(statistics[0]), collected
  )
  # Both statistics come out of one split.
  assert (relevant, others) == (collected, [])
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    got = sess.run(statistics)
    np.testing.assert_array_equal(sess.run(mean), [1, 1])
    sess.run(collected)
    np.testing.assert_allclose(sess.run(mean), [0.7, 0.7])
    np.testing.assert_allclose(sess.run(variance), np.full([3, 1], 0.6))
  np.testing.assert_allclose(got[0], [2, 2])
  np.testing.assert_allclose(got[1], [3, 3, 3])


def test_double_precision_stays():
  variable = _variable('mean', [1], tf.float64)
  [delta, _] = moving_averages.pack(
    [_update(variable, 1e-12, 0.0)], _context(1, 1)
  )
  assert delta.dtype == tf.float64


def test_nothing_without_updates():
  assert moving_averages.pack([], _context(1, 1)) == []
  assert moving_averages.update([], [[], []], '') == []
  assert not tf.get_collection(py_utils.BATCH_NORM_UPDATES)


def test_sums_go_from_the_first_to_the_last():
  # In float32 only this order gives 1.
  rows = [[tf.constant(v)] for v in (1e8, -1e8, 1.0)]
  [total] = moving_averages.sum_in_order('sum', rows)
  with tf.Session() as sess:
    assert sess.run(total) == 1.0
