# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A gradient function of one's own for tensors already computed."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.pipeline import gradients


def _attach(log):
  """y = 2 a + 3 b, whose gradients are given as 20 a' and 30 b', and none."""
  a, b, unused = (tf.constant(v) for v in (1.0, 2.0, 4.0))

  def run_backward(d_outputs):
    log.append('backward')
    return d_outputs[0]

  def source(device, tensors, factors):
    def get(given):
      log.append(device)
      return [None if f is None else given * f for f in factors]

    return gradients.Source(device, tensors, get)

  sources = [
    source('/cpu:0', [], []),
    source('/cpu:1', [a], [20.0]),
    source('/cpu:2', [b, unused], [30.0, None]),
  ]
  with tf.device('/cpu:3'):
    y = 2 * a + 3 * b
  [y] = gradients.attach([y], sources, '/cpu:3', run_backward)
  return y, a, b, unused


def test_gradients_are_those_of_the_sources():
  log = []
  y, a, b, unused = _attach(log)
  found = tf.gradients(5 * y, [a, b, unused])
  assert found[2] is None
  assert log[0] == 'backward'
  assert sorted(log[1:]) == ['/cpu:1', '/cpu:2']
  with tf.Session(config=tf.ConfigProto(device_count={'CPU': 4})) as sess:
    np.testing.assert_array_equal(sess.run(found[:2]), [100, 150])
    assert sess.run(y) == 8


def test_only_the_sources_that_are_asked_for_are_called():
  log = []
  y, a, _, _ = _attach(log)
  tf.gradients(y, a)
  assert log == ['backward', '/cpu:1']


def test_tensors_do_not_leave_their_device():
  with tf.Graph().as_default() as graph:
    y, a, b, unused = _attach([])
    for op in graph.get_operations():
      for tensor, device in ((a, 1), (b, 2), (unused, 2)):
        if tensor in op.inputs and op.name.startswith('IdentityN'):
          assert op.device == f'/device:CPU:{device}', op
    assert y.device == '/device:CPU:3'


def test_inside_tf_function_a_tape_finds_them_too():
  a = tf.constant(1.0)

  @tf.function(autograph=False)
  def fn():
    with tf.GradientTape() as tape:
      tape.watch(a)
      [y] = gradients.attach(
        [2 * tf.stop_gradient(a)],
        [gradients.Source('', [a], lambda given: [given * 20.0])],
        '',
        lambda d_outputs: d_outputs[0],
      )
      y *= 5
    return tape.gradient(y, a)

  gradient = fn()
  with tf.Session() as sess:
    assert sess.run(gradient) == 100


def test_gradient_functions_die_with_their_graph():
  class Held:
    pass

  held = Held()
  ref = weakref.ref(held)
  with tf.Graph().as_default():
    a = tf.constant(1.0)
    source = gradients.Source('', [a], lambda done, held=held: [None])
    [y] = gradients.attach([2 * a], [source], '', lambda d: None)
    tf.gradients(y, a)
  del held, source, a, y
  gc.collect()
  assert ref() is None


def test_a_copied_graph_says_that_it_has_no_gradient():
  with tf.Graph().as_default() as graph:
    y, a, _, _ = _attach([])
    names = [y.name, a.name]
  with tf.Graph().as_default():
    y, a = tf.import_graph_def(graph.as_graph_def(), return_elements=names)
    with pytest.raises(ValueError, match='its graph was written out and read'):
      tf.gradients(y, a)
