# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of shapes written as text."""

import lingvo.compat as tf
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import param_values

_IMAGE = tf.TensorSpec([16, 8, 8, 1], tf.float32)
_IDS = tf.TensorSpec([16, 32], tf.int32)


@pytest.mark.parametrize(
  ('text', 'nest'),
  [
    ('float32[16,8,8,1]', _IMAGE),
    (' float32 [ 16, 8, 8, 1 ] ', _IMAGE),
    ('float32[16,8,8,1], None, int32[16,32]', (_IMAGE, None, _IDS)),
    (
      'ids=int32[16,32], image = float32[16,8,8,1]',
      py_utils.NestedMap(ids=_IDS, image=_IMAGE),
    ),
    ('bfloat16[]', tf.TensorSpec([], tf.bfloat16)),
  ],
)
def test_text_is_read(text, nest):
  assert param_values.specs(text, 'p.shapes') == nest


def test_specs_pass():
  nest = py_utils.NestedMap(a=_IMAGE, b=[_IDS, None])
  assert param_values.specs(nest, 'p.shapes') is nest


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ('float32', "p.shapes is 'float32'.*cannot be read: float32 has no shape"),
    ('float32[2] int32[3]', 'cannot be read: .*syntax'),
    ('float33[2]', "p.shapes is 'float33.*cannot be read: .*float33"),
    ('float32[2], a=int32[3]', 'either all of its tensors have names'),
    ('a=float32[2], a=int32[3]', 'names, which differ'),
    (tf.TensorSpec([None, 3]), r'p.shapes is .*\(None, 3\).*must be known'),
    ('float32[None,3]', r"p.shapes is 'float32\[None,3\]'.*must be known"),
    ('float32[?, 3]', 'p.shapes is .*cannot be read'),
    ('float32[b,3]', 'p.shapes is .*cannot be read'),
    ('float32[-1,3]', 'p.shapes is .*cannot be read'),
    ([4, 4], r'p.shapes is \[4, 4\]; 4 in it is not a tf.TensorSpec'),
    ((None, 3), r'p.shapes is \(None, 3\); 3 in it is not a tf.TensorSpec'),
  ],
)
def test_errors_name_the_param_and_the_place(value, message):
  with pytest.raises(ValueError, match=message):
    param_values.specs(value, 'p.shapes')
