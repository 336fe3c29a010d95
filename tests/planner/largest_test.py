# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import costed_layers
import planner_testing
import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.planner import largest, recommend
from lingvo_gpipe.planner.forecast import forecast
from lingvo_gpipe.training import user_error

_K, _LIMIT = 2, 40_000


def _work(length, width):
  work = planner_testing.workload(length)
  bytes_of = {'weight_bytes': 100 * width**2, 'optimizer_bytes': 200 * width**2}
  layers = (dataclasses.replace(layer, **bytes_of) for layer in work.layers)
  return dataclasses.replace(work, layers=tuple(layers))


def _ways(work):
  return recommend.settings(work, _K, micro_batches=[8])


@pytest.mark.parametrize(
  ('model', 'sizes'),
  [
    (lambda width: _work(2, width), range(1, 40)),
    (lambda width: _work(8, width), range(1, 40)),
    (lambda length: _work(length, 1), range(2, 500)),
  ],
)
def test_the_largest_fits_and_one_step_more_does_not(model, sizes):
  found = largest.largest(model, sizes, _ways, _LIMIT)
  assert found.fits
  [size] = [n for n in sizes if model(n).layers == found.workload.layers]
  following = model(size + 1)
  ways = [w for w in _ways(following) if w.num_cells <= len(following.layers)]
  assert not any(forecast(following, w, None, _LIMIT).fits for w in ways)
  text = largest.as_text([found])
  assert found.workload.name in text
  assert str(found.setting) in text
  assert largest.largest(model, sizes, _ways, 100) is None


@pytest.mark.parametrize('limit', [*range(12), 49, 50, 51, 99, 100, 1000])
def test_the_largest_size_is_found_with_few_questions(limit):
  asked = []

  def fits(size):
    asked.append(size)
    return size <= limit

  result = largest.largest_that_fits(range(1, 101), fits)
  assert result == (min(limit, 100) or None)
  assert len(asked) <= 14
  # Sizes much too large are slow to ask for.
  assert max(asked) <= max(4 * limit, 1)


@pytest.fixture(scope='module')
def amoebanets():
  return largest.Family('image.imagenet.AmoebaNetD18x256')


@pytest.mark.parametrize('length', [15, 18, 24])
def test_longer_models_repeat_layers_as_the_real_ones_do(amoebanets, length):
  real = amoebanets._run_lengths(length)
  found = amoebanets._layers(length)
  assert found == [i for i, count in real for _ in range(count)]
  assert len(found) == length + 6
  # Stem, reductions and classifier; three kinds of cells in each run, and the
  # network's last.
  assert len(set(found)) == 6 + 3 * 3 + 1


def test_a_layers_weights_at_any_width_are_those_of_three_widths(amoebanets):
  def costs(width):
    # The first normal cell, which halves what the cell before last returned.
    layer = amoebanets._params(12, width).sub[3]
    (cost,) = costed_layers.parameter_costs([layer])
    # As activations are: linear in the width.
    return dataclasses.replace(cost, output_bytes=40 * width + 5)

  known = {width: costs(width) for width in largest.AMOEBANET.widths}
  real, found = costs(416), largest.cost_at_width(known, 416)
  for name in ('parameters', 'state_bytes', 'forward', 'output_bytes'):
    assert getattr(found, name) == getattr(real, name)


def test_short_models_are_costed_themselves():
  # Parameters alone: nothing is traced.
  family = largest.Family(
    'lm.paper.Transformer3', input_shapes='', balance='params', splits=[]
  )
  for length in (1, 2, 3):
    names = [layer.name for layer in family.workload(length).layers]
    assert names == ['embedding', *['layer_0'] * length, 'softmax']
  # Layers of longer models are scaled otherwise and cost the same.
  first, second = (family.workload(n).layers[1] for n in (2, 40))
  assert first == second


def test_models_without_a_size_are_of_no_family():
  with pytest.raises(user_error.UserError, match='cannot be changed'):
    largest.Family('image.digits.AmoebaNetD')
