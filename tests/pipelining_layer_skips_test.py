# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Skip connections: exact for every cut, and straight from device to device."""

import collections
import functools
import itertools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
import unet
from lingvo.core import builder_layers, py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values


@functools.cache
def _reference():
  return unet.step(unet.pipeline(unet.layers(), ()))


def _unet(num_cells, **kwargs):
  return unet.pipeline(unet.layers(), unet.CUTS[num_cells], **kwargs)


@pytest.mark.parametrize(
  ('num_cells', 'schedule', 'recompute'),
  [
    *itertools.product(
      [4], ['gpipe', '1f1b'], ['always', 'except_last', 'never']
    ),
    (2, '1f1b', 'always'),
    (2, 'gpipe', 'never'),
  ],
)
def test_unet_is_bit_identical_to_one_cell(num_cells, schedule, recompute):
  params = _unet(num_cells, schedule=schedule, recompute=recompute)
  pt.assert_identical(unet.step(params), _reference())


def test_unet_agrees_with_the_unpipelined_model():
  def compute(layer):
    x = tf.constant(unet.images())
    with named_values.scope():
      y = tiny_pipeline.unpipelined(layer, x)
    return layer.loss.FProp(layer.theta.loss, y, tf.zeros_like(y))

  plain = unet.step(unet.pipeline(unet.layers(), ()), compute=compute)
  pt.assert_close(_reference(), plain)


def test_unet_with_the_loss_outside():
  def compute(layer):
    x = tf.constant(unet.images())
    y = layer.FProp(layer.theta, x)
    return layer.loss.FProp(layer.theta.loss, y, tf.zeros_like(y))

  results = [unet.step(_unet(k), compute=compute) for k in (1, 4)]
  pt.assert_identical(*results)
  pt.assert_close(results[0], _reference())


def test_evaluation_is_bit_identical():
  results = [unet.step(_unet(k), do_eval=True) for k in (1, 4)]
  np.testing.assert_equal(results[1].metrics, results[0].metrics)


def test_cells_that_share_devices():
  params = _unet(4, schedule='1f1b')
  pt.assert_identical(unet.step(params, num_devices=2), _reference())


def _crossings(params):
  """What crosses between devices in a step, as the graph has it.

  Returns:
    The bytes of each tensor that an op of one device hands to another's, as
    (from, to, bytes), scalars and contexts excepted: a list in order.
  """
  num_devices = len(params.cell_tpl)
  with pt.cluster(num_devices), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    loss = unet.compute_loss(layer).loss[0]
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
    assert all(g is not None for g in gradients)
    number = {d: k for k, d in enumerate(layer.cell_devices)}
    found = set()
    for op in graph.get_operations():
      for tensor in op.inputs:
        a, b = (number.get(o.device) for o in (tensor.op, op))
        if None not in (a, b) and a != b and tensor.shape.rank > 1:
          found.add((a, b, tensor.name))
    return sorted(
      (a, b, _bytes(graph.get_tensor_by_name(name))) for a, b, name in found
    )


def _bytes(tensor):
  return tensor.shape.num_elements() * tensor.dtype.size


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_skip_crosses_once_and_straight(recompute):
  # Of the five examples two micro-batches have two, and one has one.
  crossing = _crossings(_unet(4, schedule='1f1b', recompute=recompute))
  by_pair = collections.defaultdict(list)
  for a, b, size in crossing:
    by_pair[a, b].append(size)
  expected = {
    (0, 1): [unet.BYTES_A],  # What goes on.
    (1, 2): [unet.BYTES_B, unet.BYTES_B],  # What goes on, and b.
    (2, 3): [unet.BYTES_A],
    (0, 3): [unet.BYTES_A],  # a, past two cells.
  }
  # Forward, and the gradients of the same sizes back.
  expected |= {(b, a): sizes for (a, b), sizes in expected.items()}
  assert by_pair == {
    pair: sorted(size * n for size in sizes for n in (1, 2, 2))
    for pair, sizes in expected.items()
  }


def _chain_of_takers():
  """A value with four takers, each of which uses it in a way of its own."""
  take = functools.partial(unet.take, combine='add')
  a, b, c, d, e = tiny_pipeline.linear(*'abcde')
  return [
    *(a, unet.put('put', 'x'), b, take('t1', 'x'), c, take('t2', 'x')),
    *(d, take('t3', 'x'), e, take('t4', 'x')),
  ]


def _step_of_chain(cuts, **kwargs):
  params = unet.pipeline(_chain_of_takers(), cuts, **kwargs)
  x = tiny_pipeline.inputs(7)

  def compute(layer):
    return layer.ComputeLoss(layer.theta, tf.constant(x), tf.zeros([7, 3]))

  return unet.step(params, compute=compute)


def test_many_takers_give_the_same_sum_for_every_cut():
  reference = _step_of_chain(())
  for cuts in ((4, 8), (2, 4, 6, 8), (1, 5)):
    got = _step_of_chain(cuts, schedule='1f1b')
    pt.assert_identical(got, reference)


def test_cells_may_be_single_layers():
  layers = [
    tiny_pipeline.linear('a')[0],
    named_layers.WithNamedValues.Params().Set(
      name='b', body=tiny_pipeline.linear('body')[0], puts=['b']
    ),
    *tiny_pipeline.linear('c'),
    unet.take('d', 'b', combine='add'),
  ]
  x = tiny_pipeline.inputs()
  params = tiny_pipeline.pipeline([]).Set(cell_tpl=layers)
  plain = builder_layers.SequentialLayer.Params().Set(name='net', sub=layers)

  def build(params):
    layer = params.Instantiate()
    with named_values.scope():
      y = layer.FPropDefaultTheta(tf.constant(x))
    return y, tf.gradients(y, list(tf.trainable_variables()))

  got, expected = (
    tiny_pipeline.run(functools.partial(build, p), num_devices=4)
    for p in (params, plain)
  )
  for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class _PutsNothing(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return x


def test_a_layer_must_put_what_it_declares():
  layers = unet.layers()
  layers[1] = _PutsNothing.Params().Set(name='put_a', puts=['a'])
  with pytest.raises(ValueError, match=r"'d0' declares that it puts \['a'\]"):
    unet.step(unet.pipeline(layers, unet.CUTS[4]))
