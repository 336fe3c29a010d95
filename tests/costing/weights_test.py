# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from lingvo.core import base_layer, bn_layers, layers, py_utils

from lingvo_gpipe.costing import weights


def _layer(**params):
  return layers.ProjectionLayer.Params().Set(
    input_dim=3, output_dim=5, batch_norm=False, **params
  )


def test_trainable_numbers_of_nested_lists_count():
  a, b, c = (_layer(name=name, has_bias=True) for name in 'abc')
  # Of batch norm not the moving averages.
  norm = bn_layers.BatchNormLayer.Params().Set(name='bn', dim=4)
  assert weights.count_parameters([a, (b, [c, norm])]) == 3 * (15 + 5) + 8


class WithArray(base_layer.BaseLayer):
  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('table', np.zeros(3), 'An array.')
    return p


def test_only_the_name_does_not_matter():
  known = weights.ParamsCache()

  def get(params, key='key'):
    return known.get(params, key, object)

  first = get(_layer(name='a'))
  assert get(_layer(name='b')) is first
  assert get(_layer(name='a'), 'other key') is not first
  assert get(_layer(name='a', has_bias=True)) is not first
  init = py_utils.WeightInit.Gaussian(0.1)
  assert get(_layer(name='a', params_init=init)) is not first
  assert get(layers.FCLayer.Params().Set(name='a')) is not first
  a = WithArray.Params().Set(name='a', table=np.arange(3))
  b = WithArray.Params().Set(name='b', table=np.arange(3))
  assert weights.equal_but_name(a, b)
  assert not weights.equal_but_name(a, b.Set(table=np.arange(3) + 1))
