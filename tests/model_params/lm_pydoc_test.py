# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the language models for Python's interactive help."""

import pytest
from lingvo import datasets, model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)


@pytest.mark.parametrize('model', ['TransformerPieces', 'TransformerBytes'])
def test_layers_have_the_ids_of_the_input(model):
  model = f'lm.pydoc.{model}'
  train, test = (
    model_registry.GetParams(model, dataset) for dataset in ('Train', 'Test')
  )
  size = {
    'bytes': 259,
    'sentencepiece': train.input.sentencepiece_vocab_size,
  }[train.input.tokenizer]
  assert train.task.pipeline.sub[0].vocab_size == size
  for name in ('tokenizer', 'sentencepiece_vocab_size', 'row_length'):
    assert train.input.Get(name) == test.input.Get(name)
  found = datasets.GetDatasets(model_registry.GetClass(model))
  assert found == ['Test', 'Train']
