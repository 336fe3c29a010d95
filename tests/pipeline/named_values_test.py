# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values put aside and taken, and the order of their gradients."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import base_layer

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values


def test_no_gradient_is_a_sum_of_more_than_two_terms(graph):
  with named_values.scope():
    x = tf.constant([2.0, 3.0])
    y = named_values.current_scope().put('a', x)
    for _ in range(4):
      y = y * named_values.current_scope().take('a')
    tf.gradients(y, x)
    sums = [op for op in graph.get_operations() if op.type == 'AddN']
    assert [len(op.inputs) for op in sums] == [2] * 4


class _Doubling(base_layer.BaseLayer):
  """2 x, by a value that does not leave the layer."""

  def __init__(self, params):
    super().__init__(params)
    put = named_layers.PutLayer.Params().Set(name='put', puts=['x'])
    self.CreateChild('put', put)
    take = named_layers.TakeLayer.Params().Set(name='take', takes=['x'])
    self.CreateChild('take', take)

  def FProp(self, theta, x):
    return self.take.FProp(theta.take, self.put.FProp(theta.put, x))


def test_layers_inside_of_a_layer_have_values_of_their_own():
  subs = [_Doubling.Params().Set(name=name) for name in ('a', 'b')]
  x = tiny_pipeline.inputs()
  outputs = tiny_pipeline.outputs(
    tiny_pipeline.pipeline(subs), x, num_devices=2
  )
  np.testing.assert_allclose(outputs, 4 * x, rtol=1e-6)


def test_errors_of_scopes():
  with pytest.raises(ValueError, match='outside of it inside'):
    named_values.current_scope().take('a')
  with named_values.scope({'a': None}):
    with pytest.raises(ValueError, match=r"no value 'b' to take; .*'a'"):
      named_values.current_scope().take('b')
    with pytest.raises(ValueError, match="'a' is put aside a second time"):
      named_values.current_scope().put('a', tf.zeros([]))
    with named_values.scope(), pytest.raises(ValueError, match='no value'):
      named_values.current_scope().take('a')


def _layer(name, puts=(), takes=(), **weights_of):
  return named_layers.NamedValueLayer.Params().Set(
    name=name, puts=puts, takes=takes, weights_of=weights_of
  )


def _named(*layers):
  return [(params.name, params) for params in layers]


def test_one_error_lists_all_that_is_wrong():
  layers = _named(
    _layer('a', takes=['late', 'never']),
    _layer('b', puts=['late', 'twice', 'mask']),
    _layer('c', puts=['twice'], w='nobody.w', v='c'),
    _layer('d', takes=['twice', 'mask'], w='e.w'),
    _layer('e', puts=['own'], takes=['own']),
    _layer('e'),
  )
  before = _named(_layer('embed', takes=['mask']))
  with pytest.raises(ValueError) as info:
    named_values.check(layers, ['mask'], weights_only=before, what='net')
  head, *problems = str(info.value).split('\n  ')
  assert head.startswith('net has named values or weights')
  assert problems == [
    'embed is not one of the cells; only layers in them can put or take '
    'values and use the weights of others',
    "a takes 'late', which no layer before it puts and which is not among "
    "side_inputs, ['mask']",
    "a takes 'never', which no layer before it puts and which is not among "
    "side_inputs, ['mask']",
    "b puts 'mask', as the side inputs did: each value needs a name of its own",
    "c puts 'twice', as b did: each value needs a name of its own",
    "c uses the weights of 'nobody.w', but the layers are embed, a, b, c, d, "
    'e, e',
    "c uses the weights of 'c', but that is itself",
    "d uses the weights of 'e.w', but 2 layers have that name",
    "e takes 'own', which no layer before it puts and which is not among "
    "side_inputs, ['mask']",
  ]


def test_what_no_layer_takes_is_a_warning(caplog):
  layers = _named(_layer('a', puts=['x', 'y']), _layer('b', takes=['y']))
  with caplog.at_level('WARNING'):
    named_values.check(layers, ['mask'], what='net')
  assert (
    "net: no layer takes 'mask', put by the side inputs; 'x', put by a."
    in (caplog.text)
  )
