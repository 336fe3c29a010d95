# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Leaves are named, and made tensors."""

import lingvo.compat as tf
import numpy as np
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import mini_batch


def test_numbers_arrays_and_lists_of_numbers_become_tensors():
  nest = (
    True,
    2,
    0.5,
    np.ones([2, 3], np.int64),
    np.float64(3),
    [[1.0, 2.0], [3.0, 4.0]],
    ['a', 'b'],
    None,
  )
  nested = py_utils.NestedMap(x=[*nest, tf.zeros([7])])
  found = mini_batch.to_tensors(nested, 'inputs', 'net').x
  assert [None if t is None else (t.dtype, t.shape) for t in found] == [
    (tf.bool, []),
    (tf.int32, []),
    (tf.float32, []),
    (tf.int64, [2, 3]),
    (tf.float64, []),
    (tf.float32, [2, 2]),
    (tf.string, [2]),
    None,
    (tf.float32, [7]),
  ]
  assert isinstance(nested.x[0], bool)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: tf.ragged.constant([[1], []]), 'is a RaggedTensor; a pipeline'),
    (lambda: tf.sparse.eye(2), 'is a SparseTensor; a pipeline'),
    (
      lambda: tf.IndexedSlices(tf.zeros([1, 2]), tf.zeros([1], tf.int32)),
      'is a IndexedSlices; a pipeline',
    ),
    (lambda: object(), 'is a object that cannot be made a tensor'),
    (lambda: [1.0, [2.0]], 'is a list that cannot be made a tensor'),
  ],
)
def test_what_cannot_be_a_tensor_is_named(make, message):
  with pytest.raises(ValueError, match=rf'^net: targets\.x {message}'):
    mini_batch.to_tensors({'x': make()}, 'targets', 'net')
