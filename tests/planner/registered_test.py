# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import costed_layers
import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.planner import recommend, registered
from lingvo_gpipe.planner.registered import Family
from lingvo_gpipe.training import user_error

_MODEL = 'image.imagenet.AmoebaNetD18x256'
# Parameters alone: nothing is traced.
_PARAMETERS = {'input_shapes': '', 'balance': 'params', 'splits': []}


@pytest.fixture(scope='module')
def amoebanets():
  return Family(_MODEL)


@pytest.mark.parametrize('length', [15, 18, 24])
def test_longer_models_repeat_layers_as_the_real_ones_do(amoebanets, length):
  real = amoebanets._like(length)
  assert amoebanets._layers(length) == real
  assert len(real) == length + 6
  # Stem, reductions and classifier; three kinds of cells in each run, and the
  # network's last.
  assert len(set(real)) == 6 + 3 * 3 + 1


def test_a_layers_weights_at_any_width_are_those_of_three_widths(amoebanets):
  def costs(width):
    # The first normal cell, which halves what the cell before last returned.
    layer = amoebanets._params(12, width).sub[3]
    (cost,) = costed_layers.parameter_costs([layer])
    return cost

  known = {width: costs(width) for width in registered.AMOEBANET.traced}
  real = costs(416)
  layer = registered.cost_at_width(known, 416)
  assert layer.parameters == real.parameters
  assert layer.state_bytes == real.state_bytes
  assert layer.forward == real.forward


def test_short_models_are_costed_themselves():
  family = Family('lm.paper.Transformer3', **_PARAMETERS)
  for length in (1, 2, 3):
    names = [layer.name for layer in family.workload(length).layers]
    assert names == ['embedding', *['layer_0'] * length, 'softmax']
  # Layers of longer models are scaled otherwise and cost the same.
  first, second = (family.workload(n).layers[1] for n in (2, 40))
  assert first == second


def test_three_widths_are_traced():
  assert len(registered.AMOEBANET.traced) == 3


def test_listed_layers_are_kept_where_the_way_is_as_listed():
  model = 'lm.paper.Transformer3'
  params = registered.layer_params(model).Set(
    **_PARAMETERS, recompute=['layer_1'], num_micro_batches=2
  )
  work = registered.workload(model, params)
  ways = recommend.settings(work, 2, micro_batches=[2], schedules=['gpipe'])
  [listed] = [way for way in ways if way.recompute == work.recompute]
  assert work.spec(listed).kept == {'layer_1'}
  assert work.spec(listed).recompute == 'always'
  always = dataclasses.replace(listed, recompute='always')
  assert not work.spec(always).kept


def test_models_without_a_size_are_of_no_family():
  with pytest.raises(user_error.UserError, match='cannot be changed'):
    Family('image.digits.AmoebaNetD')


def _layer(width):
  return LayerCost(
    'a',
    forward=7 * width**2 + width + 3,
    backward=14 * width**2,
    parameters=9 * width**2 + 2 * width + 10,
    weight_bytes=4 * (9 * width**2 + 2 * width + 10),
    optimizer_bytes=8 * (9 * width**2 + 2 * width + 10),
    activation_bytes=100 * width + 5,
    output_bytes=40 * width,
  )


def test_three_widths_tell_all_others_exactly():
  known = {width: _layer(width) for width in (32, 64, 96)}
  for width in (32, 8, 512, 4096):
    layer = registered.cost_at_width(known, width)
    expected = _layer(width)
    assert layer.gradient_sum_bytes == expected.gradient_sum_bytes
    for name in (
      'forward', 'backward', 'parameters', 'weight_bytes', 'optimizer_bytes',
      'activation_bytes', 'output_bytes',
    ):  # fmt: skip
      assert getattr(layer, name) == getattr(expected, name), (width, name)
