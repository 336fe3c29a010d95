# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values put aside and taken, and the order of their gradients."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline

from lingvo_gpipe.pipeline import named_values


def test_gradients_through_puts_and_takes_are_right():
  def build():
    x = tf.constant([2.0, 3.0])
    with named_values.scope():
      y = named_values.put('a', x)
      for factor in (3.0, 5.0, 7.0):
        y = y + factor * named_values.take('a')
    return tf.gradients(y, x)

  np.testing.assert_array_equal(tiny_pipeline.run(build), [[16.0, 16.0]])


def test_no_gradient_is_a_sum_of_more_than_two_terms():
  with tf.Graph().as_default() as graph, named_values.scope():
    x = tf.constant([2.0, 3.0])
    y = named_values.put('a', x)
    for _ in range(4):
      y = y * named_values.take('a')
    tf.gradients(y, x)
    sums = [op for op in graph.get_operations() if op.type == 'AddN']
    assert [len(op.inputs) for op in sums] == [2] * 4


def test_none_and_integers_pass():
  with tf.Graph().as_default(), named_values.scope({'none': None}):
    nest = {'ids': tf.constant([1]), 'none': None}
    named_values.put('nest', nest)
    tf.nest.assert_same_structure(named_values.take('nest'), nest)
    assert named_values.take('none') is None


def test_a_scope_tells_what_was_put_and_taken():
  with tf.Graph().as_default(), named_values.scope({'given': None}) as values:
    named_values.put('b', tf.zeros([]))
    named_values.put('a', tf.zeros([]))
    for name in ('given', 'b', 'given'):
      named_values.take(name)
    assert values.put_names == ('b', 'a')
    assert values.taken_names == ('given', 'b')


def test_errors_of_scopes():
  with pytest.raises(ValueError, match='outside of a pipeline'):
    named_values.take('a')
  with tf.Graph().as_default(), named_values.scope({'a': None}):
    with pytest.raises(ValueError, match=r"no value 'b' to take; .*'a'"):
      named_values.take('b')
    with pytest.raises(ValueError, match="'a' is put aside a second time"):
      named_values.put('a', tf.zeros([]))
    with (
      named_values.scope(),
      pytest.raises(ValueError, match='no value'),
    ):
      named_values.take('a')
