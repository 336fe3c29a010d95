# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a cell's functions keep, run again and add up."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.cell_function import (
  Cell,
  CellFunction,
  CellOutputs,
  OfResults,
)
from lingvo_gpipe.engine.tensors import spec

_X = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
_W = np.array([[0.3, -1.0], [0.7, 0.2]], np.float32)


def _called(body, weights, inputs=_X, input_gradients=True):
  """A cell's function, and the arguments of its call."""
  x = tf.constant(inputs)
  cell = CellFunction(Cell('cell', '', body, weights, ()), spec(x), {}, None)
  cell.prepare_backward(OfResults([True]), input_gradients=input_gradients)
  context = tf.constant([0, 0, 0, 2, 4], tf.int64)
  packed = cell.pack_weights(weights)
  return cell, cell.arguments(x, {}, None, packed, context, ())


def test_only_what_the_gradient_reads_is_kept():
  def body(given):
    x = given.inputs * given.weights[0]
    for _ in range(5):
      x = -x  # The gradient of a sign reads nothing.
    return CellOutputs(tf.tanh(x))

  cell, args = _called(body, [tf.constant(2.0)])
  _, kept = cell.forward(args, keep=True)
  # Of the activations tanh(x) alone; shapes may be kept as well.
  assert sum(t.dtype.is_floating for t in kept) == 1


def test_half_precision_gradients_are_summed_in_float32():
  def body(given):
    return CellOutputs(given.inputs * tf.cast(given.weights[0], tf.float32))

  weights = [tf.constant(1.0, tf.bfloat16)]
  x = np.full([2], 128.0, np.float32)
  cell, args = _called(body, weights, x, input_gradients=False)
  sums = None
  # 256 and four times 0.5: bfloat16 has no number between 256 and 258.
  for d_y in (1.0, *[1 / 512] * 4):
    d_ys = [tf.fill([2], d_y)]
    _, stash = cell.forward(args, keep=True)
    _, sums = cell.backward.backward(args, stash, d_ys, sums)
  [gradient] = cell.backward.weight_gradients(sums, weights)
  assert gradient.dtype == tf.float32
  with tf.Session() as sess:
    assert float(sess.run(gradient)) == 258.0


@pytest.mark.parametrize(
  ('keep', 'runs_again'),
  [
    ((False, False, False), 3),
    ((True, False, False), 2),
    ((False, True, False), 2),
    ((True, False, True), 1),
    ((True, True, True), 0),
  ],
)
def test_what_is_kept_does_not_run_again(keep, runs_again):
  def body(given):
    graph = tf.get_default_graph()
    x, kept = given.inputs, []
    for weight, is_kept in zip(given.weights, keep, strict=True):
      before = graph.num_operations()
      x = tf.tanh(tf.matmul(x, weight))
      x = tf.cast(tf.cast(x, tf.float64) * 1.5, tf.float32)
      if is_kept:
        kept.append(range(before, graph.num_operations()))
    return CellOutputs(x, kept=kept)

  cell, args = _called(body, [tf.constant(_W)] * len(keep))
  _, stash = cell.forward(args, keep=False)
  cell.recompute(args, stash, [tf.constant(_X)])
  function = cell._functions['recompute']._function
  ops = [node.op for node in function.definition.node_def]
  assert ops.count('Tanh') == runs_again


def test_of_a_kept_tensor_no_cast_is_kept_besides():
  def body(given):
    x = tf.tanh(given.inputs)
    wide = tf.cast(x, tf.float64)
    weight = tf.cast(given.weights[0], tf.float64)
    y = tf.matmul(wide, weight) * tf.reshape(wide, [2, 2])
    kept = [range(tf.get_default_graph().num_operations())]
    return CellOutputs(tf.cast(y, tf.float32), kept=kept)

  stashed, _ = _called(body, [tf.constant(_W)])[0]._stash
  # And the product, but neither the wide inputs nor the wide weight.
  assert sorted(t.op.type for t in stashed) == ['MatMul', 'Tanh']
