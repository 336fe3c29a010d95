# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Transformer language models of the GPipe paper, Tables 1 to 3.

Huang et al., GPipe, arXiv:1811.06965: model dimension 2048, feed-forward 8192,
32 heads, 32,000 words, rows of 1024 tokens in mini-batches of 32; L layers on K
accelerators of 16 GB.

The paper does not say what these models were trained on, or how. Here they
read the UTF-8 files `corpus/*.txt`; to name others:

  --model_params_override='input.files:/data/text/*.txt'
"""

from lingvo import compat as tf
from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import text
from lingvo_gpipe.models import language_model, transformer

_VOCAB_SIZE = 32000
_ROW_LENGTH = 1024
_BATCH_SIZE = 32


class _Transformer(base_model_params.SingleTaskModelParams):
  """L layers in K cells, a mini-batch in M micro-batches."""

  NUM_LAYERS = 0
  NUM_CELLS = 1
  NUM_MICRO_BATCHES = _BATCH_SIZE
  RECOMPUTE = 'always'
  FILES = 'corpus/*.txt'

  def GetAllDatasetParams(self):
    """Text to train on, and documents that are held out."""
    train, test = text.TextInput.TrainParams(), text.TextInput.TestParams()
    for p in (train, test):
      p.Set(
        files=self.FILES,
        tokenizer='sentencepiece',
        sentencepiece_vocab_size=_VOCAB_SIZE,
        row_length=_ROW_LENGTH,
        batch_size=_BATCH_SIZE,
      )
    return {'Train': train, 'Test': test}

  def Network(self):
    return transformer.TransformerParams().Set(
      vocab_size=_VOCAB_SIZE,
      num_layers=self.NUM_LAYERS,
      model_dim=2048,
      hidden_dim=8192,
      num_heads=32,
      dropout=0.1,
    )

  def Task(self):
    p = language_model.LanguageModel.Params().Set(
      name=f'transformer_{self.NUM_LAYERS}', fprop_dtype=tf.bfloat16
    )
    p.pipeline.Set(
      sub=transformer.TransformerLayers(self.Network()),
      num_partitions=self.NUM_CELLS,
      num_micro_batches=self.NUM_MICRO_BATCHES,
      schedule='1f1b',
      recompute=self.RECOMPUTE,
      input_shapes=f'int32[{_BATCH_SIZE // self.NUM_MICRO_BATCHES},'
      f'{_ROW_LENGTH}]',
    )
    tp = p.train
    tp.max_steps = 300_000
    tp.learning_rate = 2e-4
    tp.optimizer = optimizer.Adam.Params().Set(beta2=0.98)
    tp.lr_schedule = schedule.LinearRampupCosineSchedule.Params().Set(
      warmup_steps=4000, final_value=0.1
    )
    tp.clip_gradient_norm_to_value = 1.0
    return p


@model_registration.RegisterSingleTaskModel
class Transformer3(_Transformer):
  """Naive-1: 282.2M parameters without recomputation.

  With the mini-batch in one piece the memory model asks for 39 GiB, most of it
  for attention weights.
  """

  NUM_LAYERS = 3
  NUM_MICRO_BATCHES = 4
  RECOMPUTE = 'never'


@model_registration.RegisterSingleTaskModel
class Transformer13(_Transformer):
  """Pipeline-1: 785.8M parameters on one accelerator."""

  NUM_LAYERS = 13


@model_registration.RegisterSingleTaskModel
class Transformer24(_Transformer):
  """The model of Table 3, over all devices of a split."""

  NUM_LAYERS = 24
  NUM_CELLS = 0


@model_registration.RegisterSingleTaskModel
class Transformer48(_Transformer):
  """The model of Table 2, over all devices of a split."""

  NUM_LAYERS = 48
  NUM_CELLS = 0


@model_registration.RegisterSingleTaskModel
class Transformer103(_Transformer):
  """Pipeline-8: 5.3B parameters on 8 accelerators."""

  NUM_LAYERS = 103
  NUM_CELLS = 8


@model_registration.RegisterSingleTaskModel
class Transformer415(_Transformer):
  """Pipeline-32: 21.0B parameters on 32 accelerators."""

  NUM_LAYERS = 415
  NUM_CELLS = 32


@model_registration.RegisterSingleTaskModel
class Transformer1663(_Transformer):
  """Pipeline-128: 83.9B parameters on 128 accelerators."""

  NUM_LAYERS = 1663
  NUM_CELLS = 128
