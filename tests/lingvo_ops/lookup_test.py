# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from lingvo_gpipe.lingvo_ops import lookup


def test_values_of_any_shape_and_the_default_elsewhere(run):
  x = [[b'b', b'x'], [b'a', b'b']]
  y = run(
    lambda: lookup.lookup(tf.constant(x), [b'a', b'b'], [5, 6], -1, tf.int32)
  )
  assert y.dtype == np.int32
  assert y.tolist() == [[6, -1], [5, 6]]


def test_every_run_after_the_first_finds_the_table_filled(run_times):
  keys = list(range(100))
  results = run_times(
    lambda: lookup.lookup(
      tf.constant([7, 100]), keys, [f'v{k}' for k in keys], '', tf.string
    ),
    4,
  )
  assert [result.tolist() for result in results] == [[b'v7', b'']] * 4


def test_tables_of_one_graph_are_apart(run):
  def build():
    x = tf.constant([b'a'])
    return [lookup.lookup(x, [b'a'], [value], -1, tf.int32) for value in (1, 2)]

  assert [y.tolist() for y in run(build)] == [[1], [2]]


def test_without_keys_everything_is_the_default(run):
  y = run(lambda: lookup.lookup(tf.constant([b'a']), [], [], 3, tf.int32))
  assert y.tolist() == [3]


@pytest.mark.parametrize('shape', [[], [2, 3]])
def test_the_static_shape_is_that_of_x(shape):
  with tf.Graph().as_default():
    x = tf.compat.v1.placeholder(tf.string, shape)
    y = lookup.lookup(x, [b'a'], [True], False, tf.bool)
    assert y.shape == shape


def test_a_look_up_works_within_a_dataset(run):
  def build():
    names = tf.data.Dataset.from_tensor_slices([b'a', b'b', b'c'])
    ids = names.map(
      lambda name: lookup.lookup(name, [b'a', b'c'], [1, 3], -1, tf.int32)
    )
    return tf.data.experimental.get_single_element(ids.batch(3))

  assert run(build).tolist() == [1, -1, 3]
