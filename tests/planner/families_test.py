# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.planner import families, registered, size_fit
from lingvo_gpipe.planner.families import Family
from lingvo_gpipe.training import user_error

_MODEL = 'image.imagenet.AmoebaNetD18x256'
# Parameters alone: nothing is traced.
_PARAMETERS = {'input_shapes': '', 'balance': 'params', 'splits': []}


def test_a_wide_and_long_model_has_the_parameters_of_the_real_one():
  family = Family(_MODEL, **_PARAMETERS)
  found = family.workload(18, 256)
  real = registered.workload(
    _MODEL, registered.layer_params(_MODEL).Set(**_PARAMETERS)
  )
  assert found.name == 'AmoebaNet(18, 256)'
  assert len(found.layers) == len(real.layers)
  for mine, its in zip(found.layers, real.layers, strict=True):
    assert mine.parameters == its.parameters
    assert mine.state_bytes == its.state_bytes


def test_short_models_are_costed_themselves():
  family = Family('lm.paper.Transformer3', **_PARAMETERS)
  for length in (1, 2, 3):
    names = [layer.name for layer in family.workload(length).layers]
    assert names == ['embedding', *['layer_0'] * length, 'softmax']
  # Layers of longer models are scaled otherwise and cost the same.
  first, second = (family.workload(n).layers[1] for n in (2, 40))
  assert first == second


def test_three_widths_are_traced():
  assert len(families.AMOEBANET.traced) == size_fit.NUM_WIDTHS


def test_models_without_a_size_are_of_no_family():
  with pytest.raises(user_error.UserError, match='is of no family'):
    Family('image.digits.AmoebaNetD')
