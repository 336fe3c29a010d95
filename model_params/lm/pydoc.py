# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Transformers for the topics of Python's interactive help."""

from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import text, tokenizers
from lingvo_gpipe.models import language_model, transformer

_BATCH_SIZE = 16
_NUM_MICRO_BATCHES = 4


class _Transformer(base_model_params.SingleTaskModelParams):
  """Four layers, on the half megabyte of prose in every installed Python."""

  ROW_LENGTH = 128
  VOCAB_SIZE = 0
  # Of TextInput.
  TOKENIZER: dict[str, object] = {}

  def GetAllDatasetParams(self):
    """Documents to train on, and a tenth that is held out."""
    train, test = text.TextInput.TrainParams(), text.TextInput.TestParams()
    train.num_layouts = 8
    for p in (train, test):
      p.Set(
        row_length=self.ROW_LENGTH, batch_size=_BATCH_SIZE, **self.TOKENIZER
      )
    return {'Train': train, 'Test': test}

  def Network(self):
    return transformer.TransformerParams().Set(
      vocab_size=self.VOCAB_SIZE,
      num_layers=4,
      model_dim=192,
      hidden_dim=768,
      num_heads=6,
      activation='SQUARED_RELU',
      tied=True,
      dropout=0.1,
    )

  def Task(self):
    p = language_model.LanguageModel.Params().Set(name='pydoc')
    p.pipeline.Set(
      sub=transformer.TransformerLayers(self.Network()),
      num_micro_batches=_NUM_MICRO_BATCHES,
      schedule='1f1b',
      recompute='never',
      input_shapes=(
        f'int32[{_BATCH_SIZE // _NUM_MICRO_BATCHES},{self.ROW_LENGTH}]'
      ),
    )
    tp = p.train
    tp.max_steps = 900
    tp.learning_rate = 2e-3
    tp.optimizer = optimizer.Adam.Params().Set(beta2=0.98)
    tp.lr_schedule = schedule.LinearRampupCosineSchedule.Params().Set(
      warmup_steps=100, final_value=0.05
    )
    tp.clip_gradient_norm_to_value = 1.0
    tp.save_interval_seconds = 60
    tp.summary_interval_steps = 50
    return p


@model_registration.RegisterSingleTaskModel
class TransformerPieces(_Transformer):
  """A language model of SentencePiece tokens, about three bytes each."""

  VOCAB_SIZE = 1024
  TOKENIZER = {
    'tokenizer': 'sentencepiece',
    'sentencepiece_vocab_size': VOCAB_SIZE,
  }


@model_registration.RegisterSingleTaskModel
class TransformerBytes(_Transformer):
  """A language model of bytes."""

  ROW_LENGTH = 256
  VOCAB_SIZE = len(tokenizers.ByteTokenizer().bytes_per_token)
  TOKENIZER = {'tokenizer': 'bytes'}
