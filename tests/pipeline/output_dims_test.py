# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The dimension that counts the examples, found from shapes."""

import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.pipeline import output_dims


def _find(*shapes, sizes=(2, 3), batch_dim=0):
  return output_dims.find(
    [tf.TensorShape(shape) for shape in shapes], sizes[: len(shapes)], batch_dim
  )


@pytest.mark.parametrize(
  ('shapes', 'batch_dim', 'dim'),
  [
    (([2, 5], [3, 5]), 0, 0),
    (([6, 2, 2], [6, 3, 2]), 0, 1),
    (([8, 2], [12, 2]), 0, 0),
    (([2], [2]), 0, None),
    (([], []), 0, None),
    (([0, 2], [0, 3]), 0, 1),
    (([None, 2], [None, 2]), 0, 0),
    (([None, 2], [None, 3]), 0, 1),
    (([4, None], [4, None]), 0, None),
    ((None, [3]), 1, 1),
    (([2, 2],), 1, 1),
    (([4, 2],), 0, 0),
    (([5, 2],), 0, None),
  ],
)
def test_it_grows_with_the_number_of_examples(shapes, batch_dim, dim):
  assert _find(*shapes, batch_dim=batch_dim) == dim


def test_a_batch_that_one_trace_does_not_know():
  assert _find([None, 8], [8, 8], sizes=(None, 8)) == 0
  assert _find([8, None], [8, 16], sizes=(None, 8)) == 1
  assert _find([8], [8], sizes=(None, 8)) is None


@pytest.mark.parametrize(
  ('shapes', 'message'),
  [
    (([2, 2], [3, 3]), r'dimensions \[0, 1\] all grow'),
    (([3], [4]), 'dimension 0 is not a multiple'),
    (([4], [3]), 'dimension 0 is not a multiple'),
    (([5, 2], [6, 3]), 'dimension 0 is not a multiple'),
  ],
)
def test_no_single_dimension(shapes, message):
  with pytest.raises(ValueError, match=message):
    _find(*shapes)
