# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language modelling by a pipelined network."""

import lingvo.compat as tf
from lingvo.core import metrics

from lingvo_gpipe.inputs import tokenizers
from lingvo_gpipe.models import generation, losses, pipelined_task, transformer
from lingvo_gpipe.pipeline import flat_layers


class LanguageModel(pipelined_task.PipelinedTask):
  """Trains layers to predict the next token.

  The decoder job continues the beginnings of rows, by the most probable tokens,
  and writes them as text. Input batches are those of `inputs.text.TextInput`.
  """

  INPUT = 'ids'
  TARGETS = {'labels': 'int32', 'weights': 'float32', 'bytes': 'float32'}
  TARGET_RANK = 2

  @classmethod
  def Params(cls):
    p = super().Params()
    p.loss = losses.LanguageModelLoss.Params()
    p.Define('prompt_length', 32, 'How many tokens of a row are continued.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self._CheckVocabulary()

  def Counts(self, input_batch):
    """Rows that are not empty, and places that count."""
    counts = tf.cast(input_batch.weights > 0.0, tf.float32)
    return {
      'num_samples_in_batch': tf.reduce_sum(tf.reduce_max(counts, axis=1)),
      'num_tokens_in_batch': tf.reduce_sum(counts),
    }

  def DecodeWithTheta(self, theta, input_batch):
    """Continues the beginning of each row to the row's length.

    Adds `prompt_lengths`, int32 [batch], and `present`, bool [batch], false for
    empty rows, to what `generation.generate` returns.
    """
    weights = input_batch.weights
    if transformer.SEGMENT_IDS in input_batch:
      in_first = tf.equal(input_batch.segment_ids, 1)
    else:
      in_first = weights > 0.0
    tokens = tf.reduce_sum(tf.cast(in_first, tf.int32), axis=1)
    prompt_lengths = tf.clip_by_value(tokens, 1, self.params.prompt_length)
    result = generation.generate(
      self.pipeline,
      theta.pipeline,
      input_batch.ids,
      prompt_lengths,
      int(input_batch.ids.shape[1]),
      generation.Sampling(temperature=0.0),
      end_id=tokenizers.END,
    )
    result.prompt_lengths = prompt_lengths
    result.present = tf.reduce_max(weights, axis=1) > 0.0
    return result

  def CreateDecoderMetrics(self):
    return {
      'num_samples_in_batch': metrics.AverageMetric(),
      'tokens_generated': metrics.AverageMetric(),
    }

  def PostProcessDecodeOut(self, decode_out_dict, decode_metrics_dict):
    """Returns pairs (prompt, what follows) as text, of rows not empty."""
    decode = self.input.tokenizer.decode
    names = 'ids', 'prompt_lengths', 'lengths', 'present'
    columns = [decode_out_dict[name] for name in names]
    pairs = []
    for ids, given, length, present in zip(*columns, strict=True):
      if present:
        pairs.append((decode(ids[:given]), decode(ids[given:length])))
        decode_metrics_dict['tokens_generated'].Update(length - given)
    decode_metrics_dict['num_samples_in_batch'].Update(len(pairs))
    return pairs

  def _CheckVocabulary(self):
    """Refuses an input that has ids which the layers have not."""
    source = self.children.get('input')
    wanted = getattr(source, 'vocab_size', 0)
    p = self.params.pipeline
    for layer in flat_layers.flatten(p.sub, p):
      size = dict(layer.params.IterParams()).get('vocab_size', wanted)
      if size < wanted:
        raise ValueError(
          f'{self.path}: layer {layer.name} has vocab_size={size}, but the '
          f'input {source.params.name} has {wanted} different ids. Set '
          f'vocab_size of the layers to {wanted}.'
        )
