# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import lingvo.compat as tf
import numpy as np
import pytest

from tools.benchmark import case_cut, case_model, cases

_MLP, _, _LANGUAGE_MODEL = cases.TINY_CASES


@pytest.mark.parametrize('kept', [False, True])
def test_steps_have_the_same_data_or_other_data(kept):
  model = case_model.make(_LANGUAGE_MODEL)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    step = tf.compat.v1.placeholder_with_default(1, [])
    devices = ['/cpu:0'] * 2
    inputs, targets = model.data(4, step, devices, kept=kept)
    session.run(tf.compat.v1.global_variables_initializer())
    first, second = (
      session.run([inputs, targets.labels], {step: i}) for i in (2, 3)
    )
  assert first[0].shape == (4, _LANGUAGE_MODEL.example_size)
  assert np.array_equal(first, second) == kept
  assert (first[0] != first[1]).any()


def test_equal_layers_make_equal_cells():
  found = case_cut.find(_MLP, 2)
  assert (found.splits, found.basis) == ([2], 'flops')
  assert found.layers == ['l0', 'l1', 'l2', 'l3']
  first, second = (sum(cost) for cost in found.costs)
  # The first computes no gradient of the data.
  assert 0.8 < first / second < 1
  assert found.own == {}


def test_what_recomputes_less_in_its_last_cell_has_a_cut_of_its_own():
  found = case_cut.find(dataclasses.replace(_MLP, num_layers=14), 2)
  assert found.splits == [7]
  assert set(found.own) == {'ours-1f1b-always', 'ours-1f1b-except_last'}
  assert found.own['ours-1f1b-always'].splits == [6]
  assert len(found.own['ours-1f1b-always'].costs) == 2
