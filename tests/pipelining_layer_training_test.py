# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: the same weights after several steps, however the model is cut."""

import copy
import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import builder_layers, py_utils

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.pipeline.feature_extraction_layer import PlacedKey

# Sorted by name, neither the layers nor the cells are in their order.
_LAYERS = ('l1', 'l10', 'l2', 'b', 'l11', 'a', 'l3', 'l20')
_CELLS = ('cell9', 'cell10', 'cell1', 'cell11')
_INNER = ('l2', 'l10', 'l1')
_STEPS = 3
_CLIPPED = {'clip_gradient_norm_to_value': 0.05}


def _trained(params, num_devices, **learning):
  """All variables after some steps of training."""
  with pt.cluster(num_devices), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    py_utils.GetOrCreateGlobalStepVar()
    task = tiny_pipeline.build_training(params, **learning)
    with pt.session(num_devices, graph) as sess:
      sess.run(tf.global_variables_initializer())
      for _ in range(_STEPS):
        sess.run(task.train_op)
      return sess.run({v.op.name: v for v in tf.global_variables()})


def _assert_identical(a, b):
  assert a.keys() == b.keys()
  for name, value in a.items():
    np.testing.assert_array_equal(value, b[name], err_msg=name)


def _cut_into(num_cells):
  params = tiny_pipeline.with_loss(tiny_pipeline.linear(*_LAYERS), num_cells)
  for cell, name in zip(params.cell_tpl, _CELLS, strict=False):
    cell.name = name
  return params


@functools.cache
def _in_one_cell():
  return _trained(_cut_into(1), 1, **_CLIPPED)


@pytest.mark.parametrize('num_cells', [2, 4])
def test_clipped_by_the_global_norm_weights_do_not_depend_on_the_cut(num_cells):
  _assert_identical(
    _trained(_cut_into(num_cells), num_cells, **_CLIPPED), _in_one_cell()
  )


def test_variables_are_in_the_order_of_the_layers_wherever_containers_are_cut():
  block = builder_layers.SequentialLayer.Params().Set(
    name='block', repeat=2, sub=tiny_pipeline.linear(*_INNER)
  )
  params = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net', sub=[*tiny_pipeline.linear('z'), block]
  )
  names = [f'net/block/{i:03d}/{n}/w/var' for i in (0, 1) for n in _INNER]
  for splits in ([4], [2, 5]):
    num_cells = len(splits) + 1
    with pt.cluster(num_cells), tf.Graph().as_default():
      variables = params.Copy().Set(splits=splits).Instantiate().vars.Flatten()
    assert [v.op.name for v in variables] == ['net/z/w/var', *names]


def test_copies_of_keys_have_their_place():
  first, last = copy.deepcopy([PlacedKey('b', 0), PlacedKey('a', 1)])
  assert sorted([last, first, 'c']) == ['c', 'b', 'a']
