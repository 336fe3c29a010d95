# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the registered models; nothing of them is built."""

import pytest
import tensorflow.compat.v1 as tf
from lingvo import datasets, model_registry

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe import sequential_layer
from lingvo_gpipe.costing import weights
from model_params.image import imagenet


def _params(name, dataset='Train'):
  return model_registry.GetParams(name, dataset)


@pytest.mark.parametrize(
  'name',
  [
    'image.digits.AmoebaNetD',
    'image.imagenet.AmoebaNetD18x208',
    'lm.paper.Transformer13',
    'lm.pydoc.TransformerBytes',
  ],
)
def test_data_sets_differ_in_the_split(name):
  found = datasets.GetDatasets(model_registry.GetClass(name))
  assert found == ['Test', 'Train']
  train, test = (_params(name, dataset).input for dataset in found[::-1])
  assert train.training and not test.training
  assert train.split != test.split


@pytest.mark.parametrize('model', ['AmoebaNetD', 'AmoebaNetB'])
def test_digits_have_a_whole_amoebanet(model):
  layers = _params(f'image.digits.{model}').task.pipeline.sub
  assert ' '.join(layer.name for layer in layers) == (
    'stem normal_0 reduction_0 normal_1 reduction_1 normal_2 classifier'
  )
  assert 300_000 < weights.count_parameters(layers) < 500_000


# -- ImageNet.

# K of Table 1 of arXiv:1811.06965, and of the announcement.
_CELLS = {
  'AmoebaNetD18x208': 1,
  'AmoebaNetD18x416': 1,
  'AmoebaNetD18x544': 2,
  'AmoebaNetD36x544': 4,
  'AmoebaNetD72x512': 8,
  'AmoebaNetB18x512': 4,
  'AmoebaNetD18x128': 0,
  'AmoebaNetD18x256': 0,
}


@pytest.mark.parametrize(('name', 'num_cells'), _CELLS.items())
def test_imagenet_has_the_papers_sizes(name, num_cells):
  params = _params(f'image.imagenet.{name}')
  layers = params.task.pipeline.sub
  length, dim = name.removeprefix('AmoebaNet')[1:].split('x')
  assert len(layers) == int(length) + 6
  assert layers[3].dim == int(dim)
  assert params.task.pipeline.num_partitions == num_cells
  size = 480 if 'B18' in name else 224
  assert params.input.image_size == size
  assert f',{size},{size},3]' in params.task.pipeline.input_shapes
  assert params.input.batch_size == 128


def test_the_learning_rate_warms_up_and_then_falls():
  tp = imagenet.AmoebaNetD18x208().Task().train
  with tf.Graph().as_default(), tf.Session() as session:
    lr_schedule = tp.lr_schedule.Set(name='lr').Instantiate()
    step = tf.placeholder(tf.int64, [])
    value = lr_schedule.Value(step)
    for epochs, want in (
      (0, 0),
      (1.5, 0.03),
      (3, 0.06),
      (5.4, 0.06 * 0.97),
      (100, 0.06 * 0.97 ** (97 / 2.4)),
    ):
      rate = session.run(value, {step: round(epochs * 1281167 / 128)})
      got = rate * tp.learning_rate
      assert got == pytest.approx(want, rel=1e-3, abs=1e-6)


# -- Language models.


@pytest.mark.parametrize('model', ['TransformerPieces', 'TransformerBytes'])
def test_layers_have_the_ids_of_the_input(model):
  train, test = (_params(f'lm.pydoc.{model}', x) for x in ('Train', 'Test'))
  size = {
    'bytes': 259,
    'sentencepiece': train.input.sentencepiece_vocab_size,
  }[train.input.tokenizer]
  assert train.task.pipeline.sub[0].vocab_size == size
  for name in ('tokenizer', 'sentencepiece_vocab_size', 'row_length'):
    assert train.input.Get(name) == test.input.Get(name)


@pytest.mark.parametrize(
  ('num_layers', 'published', 'num_cells'),
  [
    (3, 282.2e6, 1),
    (13, 785.8e6, 1),
    (24, None, 0),
    (48, None, 0),
    (103, 5.3e9, 8),
    (415, 21.0e9, 32),
    (1663, 83.9e9, 128),
  ],
)
def test_transformers_have_the_published_sizes(
  num_layers, published, num_cells
):
  pipeline = _params(f'lm.paper.Transformer{num_layers}').task.pipeline
  assert len(pipeline.sub) == num_layers + 2
  assert pipeline.num_partitions == num_cells
  count = weights.count_parameters(pipeline.sub)
  assert count == 50_358_272 * num_layers + 131_108_096
  if published:
    # What is published has one or two digits behind the point.
    assert abs(count - published) < 0.0005 * published + 0.05e9 * (count > 1e9)


@pytest.mark.parametrize(
  ('num_layers', 'device_memory'), [(3, '16GiB'), (13, '19GiB'), (103, '18GiB')]
)
def test_fits_into_accelerators(num_layers, device_memory):
  """By the memory model, with Adam and bfloat16 activations.

  The paper's accelerators have 16 GB. It counts 12 bytes a weight; ours are 20
  with several micro-batches, for the gradients' sum and the newest of them.
  """
  task = _params(f'lm.paper.Transformer{num_layers}').task
  pipeline = task.cls.PipelineParams(task)
  pipeline.Set(device_memory=device_memory)
  plan = sequential_layer.GPipeSequentialLayer.Plan(
    pipeline, pipeline.num_partitions
  )
  assert len(plan.partition.cells) == pipeline.num_partitions
  # A layer is a twelfth of a cell of the largest.
  assert plan.partition.imbalance < 1.06


def test_reads_rows_of_1024_words_from_files():
  p = _params('lm.paper.Transformer13').input
  assert p.sentencepiece_vocab_size == 32000
  assert (p.batch_size, p.row_length) == (32, 1024)
  with pytest.raises(ValueError, match="No file matches 'corpus/"):
    p.Instantiate()
