# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Skip connections: on every cut, and straight from device to device."""

import collections
import dataclasses
import functools

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline
import unet
from example_model import inside
from lingvo.core import builder_layers

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values

_CUT = unet.MODEL.cuts[-1]


def _crossings(params):
  """What crosses between devices in a step, as the graph has it.

  Returns:
    For (from, to), the bytes of each tensor that an op of one device hands to
    another's, scalars and contexts excepted; sorted.
  """
  num_devices = len(params.cell_tpl)
  with pt.graph(num_devices) as graph:
    layer = params.Instantiate()
    loss = inside(layer, unet.MODEL.batch()).loss[0]
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
    assert all(g is not None for g in gradients)
    number = {d: k for k, d in enumerate(layer.cell_devices)}
    crossing = set()
    for op in graph.get_operations():
      for tensor in op.inputs:
        a, b = (number.get(o.device) for o in (tensor.op, op))
        if None not in (a, b) and a != b and tensor.shape.rank > 1:
          size = tensor.shape.num_elements() * tensor.dtype.size
          crossing.add((a, b, size, tensor.name))
  by_pair = collections.defaultdict(list)
  for a, b, size, _ in sorted(crossing):
    by_pair[a, b].append(size)
  return by_pair


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_skip_crosses_once_and_straight(recompute):
  expected = {
    (0, 1): [unet.BYTES_A],  # What goes on.
    (1, 2): [unet.BYTES_B, unet.BYTES_B],  # What goes on, and b.
    (2, 3): [unet.BYTES_A],
    (0, 3): [unet.BYTES_A],  # a, past two cells.
  }
  # Forward, and the gradients of the same sizes back.
  expected |= {(b, a): sizes for (a, b), sizes in expected.items()}
  # Of the five examples two micro-batches have two, and one has one.
  assert _crossings(
    unet.MODEL.pipeline(_CUT, schedule='1f1b', recompute=recompute)
  ) == {
    pair: sorted(size * n for size in sizes for n in (1, 2, 2))
    for pair, sizes in expected.items()
  }


def test_cells_that_share_devices():
  def step(cut, **kwargs):
    params = unet.MODEL.pipeline(cut, schedule='1f1b')
    return pt.run_step(
      params, compute=lambda x: inside(x, unet.MODEL.batch()), **kwargs
    )

  pt.assert_identical(step(_CUT, num_devices=2), step(1))


def test_cells_may_be_single_layers():
  layers = [
    tiny_pipeline.linear('a')[0],
    named_layers.WithNamedValues.Params().Set(
      name='b', body=tiny_pipeline.linear('body')[0], puts=['b']
    ),
    *tiny_pipeline.linear('c'),
    unet.take('d', 'b', combine='add'),
  ]
  params = tiny_pipeline.pipeline([]).Set(cell_tpl=layers)
  plain = builder_layers.SequentialLayer.Params().Set(name='net', sub=layers)

  def build(params):
    layer = params.Instantiate()
    with named_values.scope():
      y = layer.FPropDefaultTheta(tf.constant(tiny_pipeline.inputs()))
    return y, tf.gradients(y, list(tf.trainable_variables()))

  got, expected = (
    tiny_pipeline.run(functools.partial(build, p), num_devices=4)
    for p in (params, plain)
  )
  tiny_pipeline.assert_close(got, expected)


class _PutsNothing(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return x


def test_a_layer_must_put_what_it_declares():
  layers = unet.layers()
  layers[1] = _PutsNothing.Params().Set(name='put_a', puts=['a'])
  with pytest.raises(ValueError, match=r"'d0' declares that it puts \['a'\]"):
    dataclasses.replace(unet.MODEL, subs=layers).step(_CUT)
