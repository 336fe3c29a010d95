# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the language models for Python's interactive help."""

import numpy as np
import pipeline_testing as pt
import pytest
import tensorflow.compat.v1 as tf
from lingvo import datasets, model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)


def _params(model, dataset):
  return model_registry.GetParams(f'lm.pydoc.{model}', dataset).Copy()


def _small(dataset):
  """The model of bytes, with less to do."""
  p = _params('TransformerBytes', dataset)
  p.input.Set(batch_size=8, row_length=32, num_layouts=1)
  p.task.pipeline.Set(num_micro_batches=2, input_shapes='int32[4,32]')
  return p


def test_trains_and_evaluates_in_two_cells():
  with (
    pt.cluster(2),
    tf.Graph().as_default(),
    pt.session(2) as session,
  ):
    tf.set_random_seed(1)
    model = _small('Train').Instantiate()
    model.ConstructFPropBPropGraph()
    task = model.GetTask()
    assert len(task.pipeline.cells) == 2
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    steps = [
      session.run([task.eval_metrics, task.train_op])[0] for _ in range(8)
    ]
  losses = [step['loss'][0] for step in steps]
  assert np.mean(losses[4:]) < np.mean(losses[:4])
  for step in steps:
    assert step['num_samples_in_batch'] == (8.0, 1.0)
    # A row of bytes stands for as many, but for marks.
    tokens = step['num_tokens_in_batch'][0]
    assert tokens - 8 <= step['bits_per_byte'][1] <= tokens <= 8 * 32

  with (
    pt.cluster(2, do_eval=True),
    tf.Graph().as_default(),
    pt.session(2) as session,
  ):
    model = _small('Test').Instantiate()
    model.ConstructFPropGraph()
    task = model.GetTask()
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    metrics = session.run(task.eval_metrics)
  assert 6.0 < metrics['bits_per_byte'][0] < 14.0


@pytest.mark.parametrize('model', ['TransformerPieces', 'TransformerBytes'])
def test_layers_have_the_ids_of_the_input(model):
  train, test = _params(model, 'Train'), _params(model, 'Test')
  size = {
    'bytes': 259,
    'sentencepiece': train.input.sentencepiece_vocab_size,
  }[train.input.tokenizer]
  assert train.task.pipeline.sub[0].vocab_size == size
  for name in ('tokenizer', 'sentencepiece_vocab_size', 'row_length'):
    assert train.input.Get(name) == test.input.Get(name)
  assert datasets.GetDatasets(model_registry.GetClass(f'lm.pydoc.{model}')) == [
    'Test',
    'Train',
  ]
