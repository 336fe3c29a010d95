# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A cell as functions: forward, backward, and backward with recomputation."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import cell_function
from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellOutputs,
  HasGradient,
)
from lingvo_gpipe.engine.tensors import spec


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


_X = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
_W = np.array([[0.3, -1.0], [0.7, 0.2]], np.float32)


def _cell(body, weights, inputs=_X, carry=()):
  specs = spec(tf.constant(inputs))
  return CellFunction('cell', body, specs, None, weights, carry)


def _call(cell, weights, keep, inputs=_X, carry=()):
  """One forward and one backward task; all that they gave."""
  context = tf.constant([0, 0, 0, 2, 4], tf.int64)
  args = cell.arguments(
    tf.constant(inputs), None, cell.pack_weights(weights), context, carry
  )
  given = HasGradient([True] * cell.num_outputs)
  has_input_gradient, _ = cell.prepare_backward(given, True)
  backward = cell.backward
  flat, stash = backward.forward(args, keep=keep)
  results = cell.results(flat)
  d_ys = [
    tf.ones_like(t) for t in tf.nest.flatten(results.outputs) if t is not None
  ]
  d_ys += [tf.constant(10.0)] * cell.num_losses
  residuals = stash if keep else backward.recompute(args, stash, d_ys)
  d_inputs, sums = backward.backward(args, residuals, d_ys, None)
  # A second micro-batch like the first.
  _, sums = backward.backward(args, residuals, d_ys, sums)
  all_weights = [*weights, *cell.captures]
  return (
    results,
    has_input_gradient,
    d_inputs,
    backward.weight_gradients(sums, all_weights),
  )


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
  weights = [tf.constant(_W)]
  results, mask, d_inputs, d_weights = _call(
    _cell(body, weights), weights, keep
  )
  x, w = tf.constant(_X), tf.constant(_W)
  context = cell_function.Context(None)
  plain = body(cell_function.CellInputs(x, None, [w], context, [])).outputs
  expected = tf.gradients(plain, [x, w])
  assert mask == [True]
  with tf.Session() as sess:
    got, expected = sess.run(
      ((results.outputs, d_inputs[0], d_weights[0]), (plain, *expected))
    )
  np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
  np.testing.assert_allclose(got[1], expected[1], rtol=1e-5)
  np.testing.assert_allclose(got[2], 2 * expected[2], rtol=1e-5)


def _recomputed(cell, args, d_ys, sums=None):
  residuals = cell.backward.recompute(args, [], d_ys)
  return cell.backward.backward(args, residuals, d_ys, sums)


def test_only_what_the_gradient_reads_is_kept():
  def body(given):
    x = given.inputs * given.weights[0]
    for _ in range(5):
      x = -x  # The gradient of a sign reads nothing.
    return CellOutputs(tf.tanh(x))

  weights = [tf.constant(2.0)]
  cell = _cell(body, weights)
  context = tf.constant([0, 0, 0, 2, 4], tf.int64)
  cell.prepare_backward(HasGradient([True]), True)
  args = cell.arguments(
    tf.constant(_X), None, cell.pack_weights(weights), context, ()
  )
  _, kept = cell.backward.forward(args, keep=True)
  # Of the activations tanh(x) alone; shapes may be kept as well.
  assert sum(t.dtype.is_floating for t in kept) == 1


def test_no_gradient_by_what_is_no_float_or_not_used():
  def body(given):
    x, ids = given.inputs
    return CellOutputs((x * given.weights[1], ids + 1))

  weights = [tf.constant(1.0), tf.constant(2.0), tf.constant([3])]
  specs = (tf.TensorSpec([2], tf.float32), tf.TensorSpec([2], tf.int32))
  cell = CellFunction('cell', body, specs, None, weights, ())
  given = HasGradient([True, False])
  assert cell.prepare_backward(given, True) == ([True, False], {})
  args = cell.arguments(
    (tf.zeros([2]), tf.zeros([2], tf.int32)),
    None,
    cell.pack_weights(weights),
    tf.zeros([5], tf.int64),
    (),
  )
  d_inputs, sums = _recomputed(cell, args, [tf.ones([2])])
  assert d_inputs[1] is None
  found = cell.backward.weight_gradients(sums, weights)
  assert [g is None for g in found] == [True, False, True]


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

  weights = [tf.constant(2.0)]
  carry = [tf.constant(41.0)]
  cell = _cell(body, weights, carry=carry)
  assert cell.captures == [outside]
  results, _, d_inputs, d_weights = _call(cell, weights, False, carry=carry)
  assert results.outputs['none'] is None
  with tf.Session() as sess:
    got = sess.run(
      (results.losses, results.carry, results.values, d_inputs, d_weights)
    )
  losses, new_carry, values, d_inputs, d_weights = got
  assert losses == [pytest.approx(5 * _X.sum())]
  assert new_carry == [42]
  assert values == [0.5, 7]
  # 2 by way of y, and 10 x 5 by way of the loss.
  np.testing.assert_allclose(d_inputs[0], np.full([2, 2], 52.0))
  np.testing.assert_allclose(d_weights, [2 * _X.sum(), 2 * 10 * _X.sum()])


def test_half_precision_gradients_are_summed_in_float32():
  def body(given):
    return CellOutputs(given.inputs * tf.cast(given.weights[0], tf.float32))

  weights = [tf.constant(1.0, tf.bfloat16)]
  cell = _cell(body, weights, inputs=np.full([2], 128.0, np.float32))
  cell.prepare_backward(HasGradient([True]), False)
  context = tf.constant([0, 0, 0, 2, 4], tf.int64)
  args = cell.arguments(
    tf.fill([2], 128.0), None, cell.pack_weights(weights), context, ()
  )
  # 256 and four times 0.5: bfloat16 has no number between 256 and 258.
  sums = None
  for d_y in (1.0, *[1 / 512] * 4):
    _, sums = _recomputed(cell, args, [tf.fill([2], d_y)], sums)
  assert sums[0].dtype == tf.float32
  [gradient] = cell.backward.weight_gradients(sums, weights)
  assert gradient.dtype == tf.float32
  with tf.Session() as sess:
    assert float(sess.run(gradient)) == 258.0


@pytest.mark.parametrize('keep', [False, True])
def test_sparse_gradients_stay_sparse(keep):
  def body(given):
    return CellOutputs(tf.gather(given.weights[0], given.inputs))

  weights = [tf.constant(np.eye(4, dtype=np.float32))]
  ids = np.array([1, 1])
  cell = _cell(body, weights, inputs=ids)
  _, mask, _, d_weights = _call(cell, weights, keep, inputs=ids)
  assert mask == [False]
  assert isinstance(d_weights[0], tf.IndexedSlices)
  with tf.Session() as sess:
    got = sess.run(d_weights[0])
  np.testing.assert_array_equal(got.indices, [1, 1, 1, 1])
  np.testing.assert_array_equal(got.values, np.ones([4, 4]))


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

  weights = [tf.constant(_W)] * len(keep)
  cell = _cell(body, weights)
  cell.prepare_backward(HasGradient([True]), True)
  return cell


def _stash_of(cell):
  context = tf.constant([0, 0, 0, 2, 4], tf.int64)
  weights = [tf.constant(_W)] * 3
  args = cell.arguments(
    tf.constant(_X), None, cell.pack_weights(weights), context, ()
  )
  return args, cell.backward.forward(args, keep=False)[1]


def _again(cell):
  """The types of ops that the recomputed pass runs."""
  args, stash = _stash_of(cell)
  cell.backward.recompute(args, stash, [tf.constant(_X)])
  function = cell.backward._functions['recompute']._function
  return [node.op for node in function.definition.node_def]


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
  assert _again(_kept_cell(keep)).count('Tanh') == runs_again


def test_of_a_kept_tensor_no_cast_is_kept_besides():
  def body(given):
    x = tf.tanh(given.inputs)
    wide = tf.cast(x, tf.float64)
    weight = tf.cast(given.weights[0], tf.float64)
    y = tf.matmul(wide, weight) * tf.reshape(wide, [2, 2])
    kept = [range(tf.get_default_graph().num_operations())]
    return CellOutputs(tf.cast(y, tf.float32), kept=kept)

  weights = [tf.constant(_W)]
  cell = _cell(body, weights)
  cell.prepare_backward(HasGradient([True]), True)
  stashed, _ = cell.backward._stash
  # And the product, but neither the wide inputs nor the wide weight.
  assert sorted(t.op.type for t in stashed) == ['MatMul', 'Tanh']


def test_gradients_are_the_same_whatever_is_kept():
  results = []
  for keep in [(False,) * 3, (True, False, True), (False, True, False)]:
    cell = _kept_cell(keep)
    args, stash = _stash_of(cell)
    d_ys = [tf.constant(_X)]
    residuals = cell.backward.recompute(args, stash, d_ys)
    d_inputs, sums = cell.backward.backward(args, residuals, d_ys, None)
    weights = [tf.constant(_W)] * 3
    results.append((d_inputs, cell.backward.weight_gradients(sums, weights)))
  with tf.Session() as session:
    first, *others = map(tf.nest.flatten, session.run(results))
  for other in others:
    for a, b in zip(first, other, strict=True):
      np.testing.assert_array_equal(a, b)
