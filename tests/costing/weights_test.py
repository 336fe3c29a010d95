# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of counting parameters, and of telling layers apart."""

import numpy as np
from lingvo.core import base_layer, bn_layers, layers, py_utils

from lingvo_gpipe.costing import weights


def _projection(input_dim, output_dim, name='projection'):
  return layers.ProjectionLayer.Params().Set(
    name=name,
    input_dim=input_dim,
    output_dim=output_dim,
    has_bias=True,
    batch_norm=False,
  )


def test_counts_weights_and_biases():
  assert weights.count_parameters(_projection(3, 5)) == 3 * 5 + 5


def test_counts_lists_to_any_depth_and_equal_layers_each():
  a, b, c = (_projection(3, 5, name) for name in 'abc')
  assert weights.count_parameters([a, (b, [c])]) == 60


def test_moving_averages_do_not_count():
  batch_norm = bn_layers.BatchNormLayer.Params().Set(name='bn', dim=4)
  assert weights.count_parameters(batch_norm) == 8


# -- Layers with the same Params.


class WithArray(base_layer.BaseLayer):
  """Has an array among its Params."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('table', np.zeros(3), 'An array.')
    return p


def _layer(**params):
  return layers.ProjectionLayer.Params().Set(
    input_dim=3, output_dim=5, batch_norm=False, **params
  )


def test_only_the_name_does_not_matter():
  known = weights.ParamsCache()

  def get(params, key='key'):
    return known.get(params, key, object)

  first = get(_layer(name='a'))
  assert get(_layer(name='b')) is first
  assert get(_layer(name='a'), 'other key') is not first
  assert get(_layer(name='a', has_bias=True)) is not first
  assert get(layers.FCLayer.Params().Set(name='a')) is not first


def test_inner_params_matter():
  a, b = _layer(), _layer()
  b.params_init = py_utils.WeightInit.Gaussian(0.1)
  assert weights.equal_but_name(a, a.Copy())
  assert not weights.equal_but_name(a, b)


def test_params_with_arrays():
  a = WithArray.Params().Set(name='a', table=np.arange(3))
  b = WithArray.Params().Set(name='b', table=np.arange(3))
  assert weights.equal_but_name(a, b)
  b.table = np.arange(3) + 1
  assert not weights.equal_but_name(a, b)
