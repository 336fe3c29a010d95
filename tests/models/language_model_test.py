# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pipeline_testing as pt
import pytest
import tensorflow.compat.v1 as tf
import transformer_testing as tt
from lingvo.core import base_input_generator

from lingvo_gpipe.inputs import tokenizers
from lingvo_gpipe.models import language_model, transformer


def _task(net=None, **pipeline):
  p = language_model.LanguageModel.Params().Set(name='task')
  p.pipeline.Set(
    sub=transformer.TransformerLayers(net or tt.network()),
    num_partitions=2,
    num_micro_batches=2,
  )
  p.pipeline.Set(**pipeline)
  return p


def test_learns_and_counts_rows_and_tokens_by_weight():
  examples = tt.batch()
  examples.weights[3] = 0.0
  tokens = examples.weights.sum()
  num_bytes = (examples.bytes * examples.weights).sum()
  with pt.cluster(2), tf.Graph().as_default(), pt.session(2) as session:
    task = _task().Instantiate()
    metrics, per_example = task.FPropTower(task.theta, tt.tensors(examples))
    assert per_example == {}
    train = tf.train.AdamOptimizer(0.02).minimize(metrics['loss'][0])
    session.run(tf.global_variables_initializer())
    steps = [session.run([dict(metrics), train])[0] for _ in range(40)]
  assert steps[-1]['loss'][0] < 0.6 * steps[0]['loss'][0]
  for step in steps:
    assert step['num_samples_in_batch'] == (3.0, 1.0)
    assert step['num_tokens_in_batch'] == (tokens, 1.0)
    assert step['loss'][1] == step['accuracy'][1] == tokens
    value, weight = step['bits_per_byte']
    assert weight == num_bytes
    bits = step['loss'][0] * tokens / np.log(2.0)
    assert value == pytest.approx(bits / num_bytes, rel=1e-5)


def test_the_loss_counts_for_the_cut_where_shapes_are_known():
  with layer_testing.graph_session():
    task = _task(input_shapes='int32[2,6]').Instantiate()
  p = task.pipeline.params
  assert p.target_shapes == (
    'labels=int32[2,6], weights=float32[2,6], bytes=float32[2,6]'
  )
  assert p.side_input_shapes == 'segment_pos=int32[2,6], segment_ids=int32[2,6]'
  assert task.pipeline.table.basis == 'flops'
  costs = task.pipeline.plan.partition.layers
  assert costs[1].forward == costs[2].forward > costs[0].forward > 0


def test_rows_that_are_not_packed_need_no_segments():
  with layer_testing.graph_session():
    examples = tt.tensors(tt.batch())
    del examples.segment_ids, examples.segment_pos
    task = _task(tt.network(packed=False), input_shapes='int32[2,6]')
    task = task.Instantiate()
    task.FPropTower(task.theta, examples)
    packed = _task().Set(name='packed').Instantiate()
    message = r"layers take \['segment_pos', 'segment_ids'\].*batch has"
    with pytest.raises(ValueError, match=message):
      packed.FPropTower(packed.theta, examples)


class _Input(base_input_generator.BaseInputGenerator):
  vocab_size = tt.VOCAB + 1
  tokenizer = tokenizers.ByteTokenizer()


def test_decodes_the_beginnings_of_rows():
  net = tt.network(vocab_size=tt.VOCAB + 1)
  p = _task(net).Set(input=_Input.Params().Set(name='text'))
  p.prompt_length = 3
  with layer_testing.graph_session(do_eval=True) as session:
    examples = tt.batch()
    examples.weights[3] = 0.0  # An empty row.
    examples.ids[:] = np.arange(tt.TIME) + 3
    task = p.Instantiate()
    decoded = task.Decode(tt.tensors(examples))
    decoded = layer_testing.run(session, decoded)
    # Row 0 is one segment; the first segment of the others has two tokens.
    assert decoded.prompt_lengths.tolist() == [3, 2, 2, 2]
    assert decoded.ids.shape == (tt.BATCH, tt.TIME)
    decoded.ids[:3] = np.arange(tt.TIME) + 3
    decoded.lengths[:3] = [6, 4, 2]
    decoder_metrics = task.CreateDecoderMetrics()
    pairs = task.PostProcessDecodeOut(decoded, decoder_metrics)
  # Of ids and bytes that begin with 3 and 0.
  assert pairs == [('\0\1\2', '\3\4\5'), ('\0\1', '\2\3'), ('\0\1', '')]
  assert decoder_metrics['num_samples_in_batch'].total_value == 3
  assert decoder_metrics['tokens_generated'].value == 5 / 3


def test_refuses_an_input_with_other_ids():
  p = _task().Set(input=_Input.Params().Set(name='text'))
  message = 'embedding has vocab_size=11, but the input text has 12'
  with layer_testing.refused(message):
    p.Instantiate()
