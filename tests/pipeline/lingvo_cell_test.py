# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cell makes of what its layers do besides their outputs."""

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline as tp
from lingvo.core import base_layer, py_utils


class Bounded(base_layer.BaseLayer):
  """Asserts that no input is large, and returns it."""

  def FProp(self, theta, x):
    del theta
    largest = tf.reduce_max(tf.abs(x))
    fine = tf.debugging.Assert(largest < 1000, ['too large', largest])
    with tf.control_dependencies([fine]):
      return tf.identity(x)


@pytest.mark.parametrize('num_cells', [1, 2])
def test_an_assertion_says_in_which_cell_layer_and_micro_batch_it_failed(
  num_cells,
):
  with pt.cluster(num_cells), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    bounded = Bounded.Params().Set(name='bounded')
    subs = [*tp.linear('a', 'b', 'c'), bounded]
    layer = tp.pipeline(subs, num_cells, num_micro_batches=4).Instantiate()
    x = tf.placeholder(tf.float32, [8, tp.WIDTH])
    outputs = layer.FProp(layer.theta, x)
    values = tp.inputs()
    values[5] = 1e6
    with pt.session(num_cells, graph) as session:
      session.run(tf.global_variables_initializer())
      with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r'\[too large\] \[\S+\] \[in cell \S+, layer \S*bounded, '
        r'micro-batch\] \[2\]',
      ):
        session.run(outputs, {x: values})
