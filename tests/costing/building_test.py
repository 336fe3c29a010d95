# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of finding layers with the same Params."""

import numpy as np
from lingvo.core import base_layer, layers, py_utils

from lingvo_gpipe.costing import building


class WithArray(base_layer.BaseLayer):
  """Has an array among its Params."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('table', np.zeros(3), 'An array.')
    return p


def _projection(**params):
  return layers.ProjectionLayer.Params().Set(
    input_dim=3, output_dim=5, batch_norm=False, **params
  )


def test_only_the_name_does_not_matter():
  known = building.ParamsCache()
  known.add(_projection(name='a'), 'key', 1)
  assert known.get(_projection(name='b'), 'key') == 1
  assert known.get(_projection(name='a'), 'other key') is None
  assert known.get(_projection(name='a', has_bias=True), 'key') is None
  assert known.get(layers.FCLayer.Params().Set(name='a'), 'key') is None


def test_inner_params_matter():
  a, b = _projection(), _projection()
  b.params_init = py_utils.WeightInit.Gaussian(0.1)
  assert building.equal_but_name(a, a.Copy())
  assert not building.equal_but_name(a, b)


def test_params_with_arrays():
  a = WithArray.Params().Set(name='a', table=np.arange(3))
  b = WithArray.Params().Set(name='b', table=np.arange(3))
  assert building.equal_but_name(a, b)
  b.table = np.arange(3) + 1
  assert not building.equal_but_name(a, b)
