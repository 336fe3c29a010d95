# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The layers without a pipeline, beside a pipeline of one micro-batch."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline as tiny

from lingvo_gpipe.pipeline import plain_run


def test_the_loss_of_each_micro_batch_is_that_of_its_part():
  def build():
    net = tiny.with_loss(tiny.linear('a', 'b'), num_micro_batches=3)
    net = net.Instantiate()
    x = tf.constant(tiny.inputs())
    with plain_run.without_pipeline() as runs:
      net.ComputeLoss(net.theta, x, tf.zeros_like(x))
    [run] = runs
    y = run.outputs()
    return y, run.own_metrics.loss, [m.loss for m in run.metrics_of_parts()]

  y, whole, parts = tiny.run(build, num_devices=2)
  squares = np.sum(np.square(y), axis=1) / 2
  assert whole == (pytest.approx(np.mean(squares)), 8)
  assert [weight for _, weight in parts] == [3, 3, 2]
  for (value, _), part in zip(parts, np.split(squares, [3, 6]), strict=True):
    assert value == pytest.approx(np.mean(part))
