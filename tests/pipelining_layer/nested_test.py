# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline in a branch, or in the cell of another pipeline."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline

from lingvo_gpipe import pipelining_layer


def _nested(recompute):
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='outer',
    num_micro_batches=2,
    recompute=recompute,
    cell_tpl=[tiny_pipeline.two_layers(recompute=recompute).Set(name='inner')],
  )


def _in_a_cell(layer, x):
  return layer.FProp(layer.theta, x)


def _in_a_branch(layer, x):
  return tf.cond(
    tf.reduce_sum(x) < 1e6, lambda: layer.FProp(layer.theta, x), lambda: x
  )


def _in_a_loop(layer, x):
  def body(i, x):
    return i + 1, layer.FProp(layer.theta, x)

  return tf.while_loop(lambda i, x: i < 2, body, [0, x])[1]


def _assert_like_plain(compute, params, num_devices=1, **kwargs):
  def build():
    layer = params.Instantiate()

    def results():
      y = compute(layer, tf.constant(tiny_pipeline.inputs()))
      loss = tf.reduce_sum(y * y)
      return [y, *tf.gradients(loss, layer.vars.Flatten(), **kwargs)]

    return tiny_pipeline.beside_plain(results)

  got, plain = tiny_pipeline.run(build, num_devices=num_devices)
  assert all(np.linalg.norm(x) > 0.1 for x in plain)
  tiny_pipeline.assert_close(got, plain, 1e-4)


@pytest.mark.parametrize(
  ('compute', 'make'),
  [(_in_a_branch, tiny_pipeline.two_layers), (_in_a_cell, _nested)],
)
@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_pipeline_in_a_branch_or_in_a_pipelines_cell(
  compute, make, recompute
):
  _assert_like_plain(compute, make(recompute=recompute))


@pytest.mark.parametrize('num_devices', [1, 2])
def test_a_pipeline_in_a_loop_has_its_gradients(num_devices):
  _assert_like_plain(_in_a_loop, tiny_pipeline.two_layers(), num_devices)


def test_a_loop_over_devices_whose_gradients_are_colocated_is_refused():
  colocated = {'colocate_gradients_with_ops': True}
  _assert_like_plain(_in_a_loop, tiny_pipeline.two_layers(), 1, **colocated)
  with pytest.raises(
    ValueError, match=r'in a tf\.while_loop has .*CPU:0.*CPU:1.* to False'
  ):
    _assert_like_plain(_in_a_loop, tiny_pipeline.two_layers(), 2, **colocated)
