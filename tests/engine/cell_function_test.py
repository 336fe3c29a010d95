# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A cell as functions: forward, backward, and backward with recomputation."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import cell_function
from lingvo_gpipe.engine.cell_function import (
  Cell,
  CellFunction,
  CellOutputs,
  OfResults,
)
from lingvo_gpipe.engine.tensors import flat_tensors, spec


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


_X = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
_W = np.array([[0.3, -1.0], [0.7, 0.2]], np.float32)


class _Called:
  """A cell, and what it is called with; micro-batches are all the same."""

  def __init__(self, body, weights, inputs=_X, carry=(), **kwargs):
    kwargs.setdefault('input_gradients', True)
    inputs = tf.nest.map_structure(tf.constant, inputs)
    self._cell = Cell('cell', '', body, weights, carry)
    self.cell = CellFunction(
      self._cell, tf.nest.map_structure(spec, inputs), {}, None
    )
    has_gradient = [
      s.dtype.is_floating for s in flat_tensors(self.cell.outputs)
    ]
    self.mask, _ = self.cell.prepare_backward(OfResults(has_gradient), **kwargs)
    self.args = self.cell.arguments(
      inputs,
      {},
      None,
      self.cell.pack_weights(weights),
      tf.constant([0, 0, 0, 2, 4], tf.int64),
      carry,
    )

  def forward(self, keep=False):
    flat, stash = self.cell.forward(self.args, keep=keep)
    return self.cell.results(flat), stash

  def backward(self, *steps, keep=False):
    """Gradients of inputs and weights, for the outputs' of each micro-batch."""
    _, stash = self.forward(keep)
    sums = None
    for d_ys in steps:
      residuals = stash
      if not keep:
        residuals = self.cell.recompute(self.args, stash, d_ys)
      d_inputs, sums = self.cell.backward.backward(
        self.args, residuals, d_ys, sums
      )
    weights = [*self._cell.weights, *self.cell.captures]
    return d_inputs, self.cell.backward.weight_gradients(sums, weights)


def _tanh(given):
  return CellOutputs(tf.tanh(tf.matmul(given.inputs, given.weights[0])))


def _loop(given):
  """A while loop, whose gradient is a loop over what each round kept."""

  def step(i, x):
    return i + 1, tf.tanh(tf.matmul(x, given.weights[0]))

  _, x = tf.while_loop(lambda i, x: i < 3, step, [0, given.inputs])
  return CellOutputs(x)


@pytest.mark.parametrize('keep', [False, True])
@pytest.mark.parametrize('body', [_tanh, _loop])
def test_gradients_are_those_of_tensorflow(body, keep):
  called = _Called(body, [tf.constant(_W)])
  d_y = [tf.ones([2, 2])]
  d_inputs, d_weights = called.backward(d_y, d_y, keep=keep)
  x, w = tf.constant(_X), tf.constant(_W)
  plain = body(cell_function.CellInputs(x, None, [w], None, [])).outputs
  expected = tf.gradients(plain, [x, w])
  assert called.mask == [True]
  with tf.Session() as sess:
    got, expected = sess.run(
      (
        (called.forward()[0].outputs, d_inputs[0], d_weights[0]),
        (plain, *expected),
      )
    )
  np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
  np.testing.assert_allclose(got[1], expected[1], rtol=1e-5)
  np.testing.assert_allclose(got[2], 2 * expected[2], rtol=1e-5)


def test_only_what_the_gradient_reads_is_kept():
  def body(given):
    x = given.inputs * given.weights[0]
    for _ in range(5):
      x = -x  # The gradient of a sign reads nothing.
    return CellOutputs(tf.tanh(x))

  _, kept = _Called(body, [tf.constant(2.0)]).forward(keep=True)
  # Of the activations tanh(x) alone; shapes may be kept as well.
  assert sum(t.dtype.is_floating for t in kept) == 1


def test_no_gradient_by_what_is_no_float_or_not_used():
  def body(given):
    x, ids = given.inputs
    return CellOutputs((x * given.weights[1], ids + 1))

  weights = [tf.constant(1.0), tf.constant(2.0), tf.constant([3])]
  called = _Called(body, weights, (np.zeros(2, np.float32), np.zeros(2, int)))
  assert called.mask == [True, False]
  d_inputs, d_weights = called.backward([tf.ones([2])])
  assert d_inputs[1] is None
  assert [g is None for g in d_weights] == [True, False, True]


def test_losses_carry_values_and_captures_find_their_places():
  outside = tf.constant(5.0)

  def body(given):
    y = given.inputs * given.weights[0]
    loss = tf.reduce_sum(given.inputs) * outside
    return CellOutputs(
      {'y': y, 'none': None},
      losses=[loss],
      carry=[given.carry[0] + 1.0],
      values=[given.context.share, tf.constant(7)],
    )

  called = _Called(body, [tf.constant(2.0)], carry=[tf.constant(41.0)])
  assert called.cell.captures == [outside]
  results, _ = called.forward()
  assert results.outputs['none'] is None
  gradients = called.backward([tf.ones([2, 2]), tf.constant(10.0)])
  with tf.Session() as sess:
    got = sess.run((results.losses, results.carry, results.values, *gradients))
  losses, new_carry, values, d_inputs, d_weights = got
  assert losses == [pytest.approx(5 * _X.sum())]
  assert new_carry == [42]
  assert values == [0.5, 7]
  # 2 by way of y, and 10 x 5 by way of the loss.
  np.testing.assert_allclose(d_inputs[0], np.full([2, 2], 52.0))
  np.testing.assert_allclose(d_weights, [_X.sum(), 10 * _X.sum()])


def test_half_precision_gradients_are_summed_in_float32():
  def body(given):
    return CellOutputs(given.inputs * tf.cast(given.weights[0], tf.float32))

  weights = [tf.constant(1.0, tf.bfloat16)]
  called = _Called(
    body, weights, np.full([2], 128.0, np.float32), input_gradients=False
  )
  # 256 and four times 0.5: bfloat16 has no number between 256 and 258.
  steps = [[tf.fill([2], d_y)] for d_y in (1.0, *[1 / 512] * 4)]
  _, [gradient] = called.backward(*steps)
  assert gradient.dtype == tf.float32
  with tf.Session() as sess:
    assert float(sess.run(gradient)) == 258.0


def _kept_cell(keep):
  """tanh(x w) twice and a cast; of each, the ops are kept that `keep` says."""

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

  return _Called(body, [tf.constant(_W)] * len(keep))


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
  called = _kept_cell(keep)
  called.backward([tf.constant(_X)])
  function = called.cell._functions['recompute']._function
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

  stashed, _ = _Called(body, [tf.constant(_W)]).cell._stash
  # And the product, but neither the wide inputs nor the wide weight.
  assert sorted(t.op.type for t in stashed) == ['MatMul', 'Tanh']
