# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers that put and take values, run without a pipeline."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import base_layer, builder_layers, py_utils
from unet import put, take

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values


def _run(subs, *args, given=None):
  """What layers in a plain SequentialLayer give, and their variables' names."""

  def build():
    net = builder_layers.SequentialLayer.Params().Set(name='net', sub=subs)
    layer = net.Instantiate()
    with named_values.scope(given):
      outputs = layer.FPropDefaultTheta(*map(tf.constant, args))
    return outputs, [tf.constant(v.op.name) for v in tf.trainable_variables()]

  outputs, names = tiny_pipeline.run(build)
  return outputs, [name.decode() for name in names]


def test_put_and_take_by_every_way_to_combine():
  x = tiny_pipeline.inputs(2)
  linear = tiny_pipeline.linear('a')
  plain, _ = _run(linear, x)
  for combine, expected in (
    ('add', plain + x),
    ('concat', np.concatenate([plain, x], axis=-1)),
    ('append', (plain, x)),
  ):
    got, _ = _run(
      [put('put', 'x'), *linear, take('take', 'x', combine=combine)], x
    )
    tf.nest.map_structure(np.testing.assert_array_equal, got, expected)


def test_several_values_and_further_arguments():
  x, y = tiny_pipeline.inputs(2), tiny_pipeline.inputs(2, seed=2)
  got, _ = _run(
    [
      put('first', 'x', argument=0),
      put('both', 'xy'),
      put('second', 'y', argument=1),
      take('sum', 'x', 'y'),
      take('all', 'xy', combine='append'),
    ],
    *(x, y),
  )
  assert len(got) == 3
  np.testing.assert_array_equal(got[0], x + x + y)
  np.testing.assert_array_equal(got[1], y)
  np.testing.assert_array_equal(got[2], (x, y))


class _Scale(base_layer.BaseLayer):
  """Returns x times a weight times the scale, and the scale."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w', py_utils.WeightParams([], py_utils.WeightInit.Constant(2.0))
    )

  def FProp(self, theta, x, scale, bias=0.0):
    return x * theta.w * scale + bias, scale


def test_any_layer_can_take_values_as_arguments_and_put_its_outputs():
  x = tiny_pipeline.inputs(2)
  wrapped = named_layers.WithNamedValues.Params().Set(
    name='wrapped',
    body=_Scale.Params(),
    takes=['scale'],
    keywords={'bias': 'bias'},
    puts=['y'],
  )
  got, variables = _run(
    [wrapped, take('take', 'y')],
    x,
    given={'scale': np.float32(3), 'bias': np.float32(1)},
  )
  np.testing.assert_array_equal(got[0], 2 * (x * 6 + 1))
  assert got[1] == 3
  assert variables == ['net/wrapped/w/var']


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    (put('p', 'a').Set(puts=['a', 'b']), 'puts must have one name'),
    (take('t'), 'takes must have a name'),
    (take('t', 'a', combine='mul'), "t.combine is 'mul'; .* 'append'"),
    (named_layers.WithNamedValues.Params().Set(name='w'), 'w.body is not set'),
  ],
)
def test_params_are_checked(params, message):
  with pytest.raises(ValueError, match=message):
    _run([params], tiny_pipeline.inputs(2))


def test_errors_of_layers_name_them():
  x = tiny_pipeline.inputs(2)
  with pytest.raises(ValueError, match=r'taker cannot add .*float32\[2, 4\]'):
    _run([take('taker', 'a')], x, given={'a': np.zeros([2, 4], np.float32)})
  with pytest.raises(ValueError, match=r'argument is 2, .* given 1 arguments'):
    _run([put('p', 'a', argument=2)], x)
