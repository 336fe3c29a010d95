# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf


def test_strings_to_ints(ops, run):
  y = run(
    lambda: ops.static_map_string_int(
      x=[['a', 'b'], ['c', 'x']], keys=['c', 'b', 'a'], vals=[7, 8, 9], unk=-3
    )
  )
  assert y.dtype == np.int32
  assert y.tolist() == [[9, 8], [7, -3]]


def test_ints_to_strings(ops, run):
  y = run(
    lambda: ops.static_map_int_string(
      x=[3, -1, 5], keys=[5, 3], vals=['five', 'three'], unk='none'
    )
  )
  assert y.tolist() == [b'three', b'none', b'five']


def test_ints_to_ints(ops, run):
  y = run(
    lambda: ops.static_map_int_int(x=[3, 4, 5], keys=[5, 3], vals=[50, 30])
  )
  assert y.tolist() == [30, -1, 50]


def test_what_is_left_out_counts_from_0(ops, run):
  y = run(lambda: ops.static_map_string_int(x=['b', 'a'], keys=['a', 'b']))
  assert y.tolist() == [1, 0]
  y = run(lambda: ops.static_map_int_string(x=[1, 0], vals=['a', 'b']))
  assert y.tolist() == [b'b', b'a']
  y = run(lambda: ops.static_map_int_int(x=[1, 0, 2], vals=[10, 11]))
  assert y.tolist() == [11, 10, -1]


def test_keys_and_values_of_different_number_raise(ops, run):
  with pytest.raises(tf.errors.InvalidArgumentError, match='different sizes'):
    run(lambda: ops.static_map_string_int(x=['a'], keys=['a', 'b'], vals=[1]))


def test_a_key_twice_raises(ops, run):
  with pytest.raises(tf.errors.InvalidArgumentError, match='duplicates'):
    run(lambda: ops.static_map_string_int(x=['a'], keys=['a', 'a']))
