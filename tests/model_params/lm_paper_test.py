# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the language models of the paper."""

import pytest
from lingvo import datasets, model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe import sequential_layer
from lingvo_gpipe.costing import weights


def _task(num_layers):
  name = f'lm.paper.Transformer{num_layers}'
  return model_registry.GetParams(name, 'Train').task


@pytest.mark.parametrize(
  ('num_layers', 'published', 'num_cells'),
  [
    (3, 282.2e6, 1),
    (13, 785.8e6, 1),
    (103, 5.3e9, 8),
    (415, 21.0e9, 32),
    (1663, 83.9e9, 128),
  ],
)
def test_has_the_published_size(num_layers, published, num_cells):
  pipeline = _task(num_layers).pipeline
  count = weights.count_parameters(pipeline.sub)
  # What is published has one or two digits behind the point.
  assert abs(count - published) < 0.0005 * published + 0.05e9 * (count > 1e9)
  assert count == 50_358_272 * num_layers + 131_108_096
  assert pipeline.num_partitions == num_cells


@pytest.mark.parametrize('num_layers', [24, 48])
def test_models_of_the_throughput_tables_go_over_all_devices(num_layers):
  pipeline = _task(num_layers).pipeline
  assert len(pipeline.sub) == num_layers + 2
  assert pipeline.num_partitions == 0


@pytest.mark.parametrize(
  ('num_layers', 'device_memory'), [(3, '16GiB'), (13, '19GiB'), (103, '18GiB')]
)
def test_fits_into_accelerators(num_layers, device_memory):
  """By the memory model, with Adam and bfloat16 activations.

  The paper's accelerators have 16 GB. It counts 12 bytes a weight; ours are 20
  with several micro-batches, for the gradients' sum and the newest of them.
  """
  task = _task(num_layers)
  pipeline = task.cls.PipelineParams(task)
  pipeline.Set(device_memory=device_memory)
  plan = sequential_layer.GPipeSequentialLayer.Plan(
    pipeline, pipeline.num_partitions
  )
  assert len(plan.partition.cells) == pipeline.num_partitions
  # A layer is a twelfth of a cell of the largest.
  assert plan.partition.imbalance < 1.06


def test_reads_rows_of_1024_words_from_files():
  for dataset in ('Train', 'Test'):
    p = model_registry.GetParams('lm.paper.Transformer13', dataset).input
    assert p.sentencepiece_vocab_size == 32000
    assert (p.batch_size, p.row_length) == (32, 1024)
    assert p.files == 'corpus/*.txt'
  with pytest.raises(ValueError, match="No file matches 'corpus/"):
    p.Instantiate()
  model = model_registry.GetClass('lm.paper.Transformer13')
  assert datasets.GetDatasets(model) == ['Test', 'Train']
