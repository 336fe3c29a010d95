# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Updates of moving averages: packed by micro-batch, applied together."""

import lingvo.compat as tf

from lingvo_gpipe.engine.cell_function import Context
from lingvo_gpipe.pipeline import moving_averages
from lingvo_gpipe.pipeline.variable_stand_in import MovingAverageUpdate


def test_double_precision_stays():
  number = tf.constant([1e-12], tf.float64)
  context = Context(tf.constant([0, 0, 0, 1, 1], tf.int64))
  [delta, _] = moving_averages.pack(
    [MovingAverageUpdate(None, number, number)], context
  )
  assert delta.dtype == tf.float64


def test_sums_go_from_the_first_to_the_last():
  # In float32 only this order gives 1.
  rows = [[tf.constant(v)] for v in (1e8, -1e8, 1.0)]
  [total] = moving_averages.sum_in_order('sum', rows)
  with tf.Session() as sess:
    assert sess.run(total) == 1.0
