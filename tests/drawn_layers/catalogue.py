# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The kinds of layers that are drawn, with the options of each.

All layers keep the number of an example's values, time x width, in one of three
forms:

  rows      [batch, time * width]
  sequence  [batch, time, width]
  image     [batch, time, 2, width / 2]
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drawn_layers import own_layers, tuple_layers
from drawn_layers.draws import DTYPES
from lingvo.core import (
  batch_major_attention,
  bn_layers,
  builder_layers,
  conv_layers_with_time_padding,
  layers,
  layers_with_attention,
  rnn_cell,
  rnn_layers,
)

from lingvo_gpipe.models import batch_norm, image_layers, transformer

ROWS, SEQUENCE, IMAGE = 'rows', 'sequence', 'image'
ANY, IDS = 'any', 'ids'
FORMS = (ROWS, SEQUENCE, IMAGE)


@dataclasses.dataclass(frozen=True)
class Some:
  """An option whose value is a tuple of some of these."""

  values: Sequence[Any]
  most: int = 4


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of layer.

  Attributes:
    form: What it takes and returns, one of FORMS, or ANY. IDS for what makes
      a sequence of ids [batch, time].
    make: Params, from the last dimension, for each option by keyword.
    options: The values of each, or `Some`; the simplest first.
    plain: Whether the model without a pipeline gives the same numbers: no if
      examples of a batch have to do with each other, or for random numbers.
    dtypes: Of the activations.
    is_rare: It takes long, or shows little of the layers before it.
  """

  form: str
  make: Callable[..., Any]
  options: Mapping[str, Sequence[Any] | Some]
  plain: bool
  dtypes: Sequence[str]
  is_rare: bool


def shape_of(form: str, time: int, width: int) -> tuple[int, ...]:
  return {
    ROWS: (time * width,),
    SEQUENCE: (time, width),
    IMAGE: (time, 2, width // 2),
  }[form]


VOCAB_SIZE = 7
_BOOL = (False, True)
_ACTIVATIONS = ('NONE', 'RELU', 'TANH', 'SWISH', 'GELU')
_DROPOUT = layers.DeterministicDropoutLayer.Params()


def _own(cls: Any) -> Callable[..., Any]:
  return lambda width, **options: cls.Params().Set(width=width, **options)


def _projection(width: int, **options: Any) -> Any:
  return layers.ProjectionLayer.Params().Set(
    input_dim=width, output_dim=width, **options
  )


def _feed_forward(width: int, dropout: bool, batch_norm: bool) -> Any:
  keep = _DROPOUT.Copy().Set(keep_prob=0.5 if dropout else 1.0)
  return layers.FeedForwardNet.Params().Set(
    input_dim=width,
    hidden_layer_dims=[4, width],
    activation=['RELU', 'NONE'],
    batch_norm=batch_norm,
    dropout=[keep, keep],
  )


def _convolution(width: int, separable: bool, **options: Any) -> Any:
  cls = layers.SeparableConv2DLayer if separable else layers.Conv2DLayer
  shape = (3, 3, width, width)
  p = cls.Params().Set(filter_shape=shape, filter_stride=(1, 1), **options)
  return tuple_layers.WithPaddings.Params().Set(body=p)


def _padded_convolution(width: int, depthwise: bool, causal: bool) -> Any:
  time_padding = conv_layers_with_time_padding
  cls = {
    (False, False): time_padding.Conv2DLayerWithPadding,
    (False, True): time_padding.CausalConv2DLayerWithPadding,
    (True, False): time_padding.DepthwiseConv2DLayer,
    (True, True): time_padding.CausalDepthwiseConv2DLayer,
  }[depthwise, causal]
  body = cls.Params().Set(
    filter_shape=(3, 1, width, 1 if depthwise else width), filter_stride=(1, 1)
  )
  return tuple_layers.WithPaddings.Params().Set(body=body, channels=True)


def _batch_norm(width: int, cls: str) -> Any:
  p = {
    'lingvo': bn_layers.BatchNormLayer,
    'no_padding': bn_layers.BatchNormLayerNoPadding,
    'fused': batch_norm.FusedBatchNormLayer,
  }[cls].Params()
  return p.Set(dim=width, decay=0.9)


def _lstm(width: int, cell: str, reverse: bool) -> Any:
  cells = {
    'simple': rnn_cell.LSTMCellSimple,
    'layer_norm': rnn_cell.LayerNormalizedLSTMCellSimple,
    'gru': rnn_cell.GRUCell,
  }
  p = cells[cell].Params()
  p.Set(num_input_nodes=width, num_output_nodes=width)
  body = rnn_layers.FRNN.Params().Set(cell=p, reverse=reverse)
  return tuple_layers.WithPaddings.Params().Set(body=body, time_major=True)


def _attention(width: int, heads: int, dropout: bool) -> Any:
  body = batch_major_attention.MultiHeadedAttention.Params().Set(
    input_dim=width,
    hidden_dim=width,
    num_heads=heads,
    dropout_tpl=_DROPOUT,
    atten_dropout_prob=0.3 if dropout else 0.0,
  )
  return tuple_layers.WithPaddings.Params().Set(body=body, attention=True)


def _lingvo_transformer(width: int, dropout: bool, mask: bool) -> Any:
  probability = 0.3 if dropout else 0.0
  p = batch_major_attention.TransformerLayer.Params().Set(
    input_dim=width, output_dim=width, num_heads=2, mask_self_atten=mask
  )
  attention = p.tr_atten_tpl
  attention.dropout_tpl = _DROPOUT
  attention.residual_dropout_prob = probability
  attention.atten_tpl.dropout_tpl = _DROPOUT
  feed_forward = p.tr_fflayer_tpl.Set(hidden_dim=2 * width)
  feed_forward.residual_dropout_tpl = _DROPOUT
  feed_forward.residual_dropout_prob = probability
  feed_forward.fflayer_tpl.dropout = _DROPOUT
  return tuple_layers.WithPaddings.Params().Set(body=p)


def _lingvo_feed_forward(width: int, activation: str) -> Any:
  p = layers_with_attention.TransformerFeedForwardLayer.Params().Set(
    input_dim=width,
    output_dim=width,
    hidden_dim=2 * width,
    activation=activation,
    residual_dropout_tpl=_DROPOUT,
  )
  p.fflayer_tpl.dropout = _DROPOUT
  return tuple_layers.WithPaddings.Params().Set(body=p)


def _glu(width: int) -> Any:
  body = layers.GluLayer.Params().Set(
    input_dim=width, output_dim=width, dropout_tpl=_DROPOUT
  )
  return tuple_layers.WithPaddings.Params().Set(body=body)


def _repeat(width: int, trips: int, separate: bool) -> Any:
  return builder_layers.RepeatLayer.Params().Set(
    body=own_layers.Dense.Params().Set(name='body', width=width),
    repeat=trips,
    per_layer_vars=separate,
  )


def _embedding(width: int, simple: bool) -> Any:
  if simple:
    body = layers.SimpleEmbeddingLayer.Params().Set(
      use_matmul=False, use_3d_weight_tensor=False
    )
  else:
    body = layers.EmbeddingLayer.Params().Set(max_num_shards=1)
  return tuple_layers.Embedding.Params().Set(
    body=body.Set(vocab_size=VOCAB_SIZE, embedding_dim=width)
  )


def _norm(is_normed: bool, factory: Callable[..., Any]) -> Callable[..., Any]:
  return functools.partial(factory, batch_norm=is_normed)


_OF_CONVOLUTIONS = {'separable': _BOOL, 'activation': _ACTIVATIONS}
_OF_CHAINS = {
  'ops': Some(tuple(own_layers.ELEMENTWISE)),
  'combine': ('sum', 'nest', 'product'),
}
# Form, Params and options of each.
_KINDS: dict[str, tuple[str, Callable[..., Any], Mapping[str, Any]]] = {
  # Made for the test.
  'dense': (ANY, _own(own_layers.Dense), {}),
  'chain': (ANY, _own(own_layers.Chain), _OF_CHAINS),
  'many_uses': (ANY, _own(own_layers.ManyUses), {}),
  'loop': (ANY, _own(own_layers.Loop), {'trips': (1, 2, 3)}),
  'branch': (ANY, _own(own_layers.Branch), {'by_data': (False,)}),
  'branch_by_data': (ANY, _own(own_layers.Branch), {'by_data': (True,)}),
  'frozen': (ANY, _own(own_layers.Frozen), {}),
  'stopped': (ANY, _own(own_layers.Stopped), {}),
  'lookup': (ANY, _own(own_layers.Lookup), {'twice': _BOOL}),
  'pieces': (ANY, _own(own_layers.Pieces), {}),
  'windows': (IMAGE, _own(own_layers.Windows), {'op': own_layers.WINDOW_OPS}),
  'reduced': (ANY, _own(own_layers.Reduced), {}),
  'transposed': (ANY, _own(own_layers.Transposed), {}),
  'adds_loss': (ANY, _own(own_layers.AddsLoss), {}),
  # Lingvo's.
  'projection': (
    *(ANY, _norm(False, _projection)),
    {'activation': _ACTIVATIONS, 'has_bias': _BOOL, 'weight_norm': _BOOL},
  ),
  'projection_batch_norm': (
    *(ANY, _norm(True, _projection)),
    {'activation': _ACTIVATIONS, 'has_bias': _BOOL, 'affine_last': _BOOL},
  ),
  'feed_forward': (ANY, _feed_forward, {'dropout': _BOOL, 'batch_norm': _BOOL}),
  'batch_norm': (
    IMAGE,
    _batch_norm,
    {'cls': ('lingvo', 'no_padding', 'fused')},
  ),
  'batch_norm_rows': (ROWS, _batch_norm, {'cls': ('lingvo',)}),
  'group_norm': (
    IMAGE,
    lambda width, groups: bn_layers.GroupNormLayer.Params().Set(
      dim=width, num_groups=groups, input_rank=4
    ),
    {'groups': (1, 2)},
  ),
  'layer_norm': (
    ANY,
    lambda width, **options: layers.LayerNorm.Params().Set(
      input_dim=width, **options
    ),
    {'bias': (True, False), 'center': (True, False)},
  ),
  'dropout': (
    ANY,
    lambda _, **options: _DROPOUT.Copy().Set(**options),
    {'keep_prob': (0.5, 0.9)},
  ),
  'convolution': (
    *(IMAGE, _norm(False, _convolution)),
    {**_OF_CONVOLUTIONS, 'bias': _BOOL, 'weight_norm': _BOOL},
  ),
  'convolution_batch_norm': (
    *(IMAGE, _norm(True, _convolution)),
    {**_OF_CONVOLUTIONS, 'conv_last': _BOOL},
  ),
  'padded_convolution': (
    *(SEQUENCE, _padded_convolution),
    {'depthwise': _BOOL, 'causal': _BOOL},
  ),
  'pool': (
    IMAGE,
    lambda _, **options: image_layers.PoolLayer.Params().Set(**options),
    {'pooling': ('max', 'avg')},
  ),
  'lstm': (
    *(SEQUENCE, _lstm),
    {'cell': ('simple', 'layer_norm', 'gru'), 'reverse': _BOOL},
  ),
  'attention': (SEQUENCE, _attention, {'heads': (1, 2), 'dropout': (False,)}),
  'attention_dropout': (
    *(SEQUENCE, _attention),
    {'heads': (1, 2), 'dropout': (True,)},
  ),
  'lingvo_transformer': (
    *(SEQUENCE, _lingvo_transformer),
    {'dropout': _BOOL, 'mask': _BOOL},
  ),
  'lingvo_feed_forward': (
    *(SEQUENCE, _lingvo_feed_forward),
    {'activation': _ACTIVATIONS[1:]},
  ),
  'transformer': (
    SEQUENCE,
    lambda width: transformer.TransformerLayer.Params().Set(
      model_dim=width, hidden_dim=2 * width, **{'attention.num_heads': 2}
    ),
    {},
  ),
  'glu': (SEQUENCE, _glu, {}),
  'embedding': (IDS, _embedding, {'simple': _BOOL}),
  'repeat': (ANY, _repeat, {'trips': (1, 2), 'separate': _BOOL}),
}
_NOT_PLAIN = {
  *('branch_by_data', 'adds_loss', 'projection_batch_norm', 'feed_forward'),
  *('batch_norm', 'batch_norm_rows', 'dropout', 'convolution_batch_norm'),
  *('attention_dropout', 'lingvo_transformer'),
}
_FLOAT32_ONLY = {
  *('windows', 'batch_norm', 'batch_norm_rows', 'convolution', 'pool', 'lstm'),
  *('convolution_batch_norm', 'padded_convolution'),
}
_RARE = {
  *('stopped', 'feed_forward', 'convolution_batch_norm', 'lstm', 'attention'),
  *('attention_dropout', 'lingvo_transformer', 'lingvo_feed_forward'),
  *('transformer', 'glu'),
}
KINDS = {
  name: Kind(
    *what,
    plain=name not in _NOT_PLAIN,
    dtypes=DTYPES[:1] if name in _FLOAT32_ONLY else DTYPES,
    is_rare=name in _RARE,
  )
  for name, what in _KINDS.items()
}
