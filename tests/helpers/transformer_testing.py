# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
from lingvo.core import py_utils

from lingvo_gpipe import pipelining_layer
from lingvo_gpipe.models import losses, transformer

VOCAB = 11
BATCH = 4
TIME = 6
SIDE_INPUTS = ('segment_ids', 'segment_pos')


def network(**kwargs):
  p = transformer.TransformerParams().Set(
    vocab_size=VOCAB,
    num_layers=2,
    model_dim=8,
    hidden_dim=16,
    num_heads=2,
    dropout=0.2,
    attention_dropout=0.1,
    hidden_dropout=0.1,
    activation='GELU',
  )
  return p.Set(**kwargs)


def pipeline(num_cells=2, net=None, **kwargs):
  """Params of the pipeline, of 4 layers, with the loss inside."""
  net = net or network()
  kwargs = {'num_micro_batches': 3, 'schedule': '1f1b', **kwargs}
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='net',
    cell_tpl=pt.cells(transformer.TransformerLayers(net), num_cells),
    side_inputs=list(SIDE_INPUTS) if net.packed else [],
    loss_tpl=losses.LanguageModelLoss.Params().Set(name='loss'),
    **kwargs,
  )


def batch(seed=3, size=BATCH):
  """Packed rows as arrays: segments of 2, 3 tokens, and an empty place."""
  rng = np.random.RandomState(seed)
  ids = rng.randint(VOCAB, size=[size, TIME + 1]).astype(np.int32)
  segment_ids = np.tile(np.int32([1, 1, 2, 2, 2, 0]), [size, 1])
  segment_ids[0] = 1  # One segment only, nothing empty.
  segment_pos = np.tile(np.int32([0, 1, 0, 1, 2, 0]), [size, 1])
  segment_pos[0] = np.arange(TIME)
  weights = (segment_ids > 0).astype(np.float32)
  return py_utils.NestedMap(
    ids=ids[:, :-1],
    labels=ids[:, 1:],
    segment_ids=segment_ids,
    segment_pos=segment_pos,
    weights=weights,
    bytes=weights * (ids[:, 1:] % 3).astype(np.float32),
  )


def tensors(arrays):
  return arrays.Transform(tf.constant)


def inputs(examples, packed=True):
  """ids, targets and side inputs for a pipeline, as tensors."""
  examples = tensors(examples)
  targets = py_utils.NestedMap(
    {name: examples[name] for name in ('labels', 'weights', 'bytes')}
  )
  side = {name: examples[name] for name in SIDE_INPUTS} if packed else {}
  return examples.ids, targets, side


def run_step(params, examples=None, **kwargs):
  examples = batch() if examples is None else examples

  def compute(layer):
    ids, targets, side = inputs(examples, bool(layer.params.side_inputs))
    return layer.ComputeLoss(layer.theta, (ids,), targets, side)

  return pt.run_step(params, None, compute=compute, **kwargs)
