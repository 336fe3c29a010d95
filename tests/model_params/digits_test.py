# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the registered models for handwritten digits."""

import pytest
from lingvo import datasets, model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.costing import weights


def _pipeline(model='AmoebaNetD'):
  params = model_registry.GetParams(f'image.digits.{model}', 'Train')
  return params.task.pipeline


@pytest.mark.parametrize('model', ['AmoebaNetD', 'AmoebaNetB'])
def test_is_a_whole_amoebanet(model):
  layers = _pipeline(model).sub
  assert [layer.name for layer in layers] == [
    'stem',
    'normal_0',
    'reduction_0',
    'normal_1',
    'reduction_1',
    'normal_2',
    'classifier',
  ]
  assert 300_000 < weights.count_parameters(layers) < 500_000


def test_defaults_are_those_of_the_main_job():
  pipeline = _pipeline()
  assert pipeline.num_micro_batches == 8
  assert pipeline.schedule == '1f1b'
  assert pipeline.recompute == 'always'


def test_lingvo_lists_the_data_sets():
  model = model_registry.GetClass('image.digits.AmoebaNetD')
  assert datasets.GetDatasets(model) == ['Test', 'Train']
