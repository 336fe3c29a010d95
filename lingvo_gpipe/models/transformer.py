# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Transformer language model as a list of layers, to be cut anywhere.

```
  ids --> embedding --> layer_0 --> ... --> layer_L-1 --> softmax --> logits
             ^             ^                   ^
        segment_pos    segment_ids         segment_ids     (side inputs)
```

One layer has 12 D^2 weights at hidden_dim = 4 D, and 13 D in norms and biases.

Sources: Huang et al., GPipe, arXiv:1811.06965 (Transformer-L); Vaswani et al.,
arXiv:1706.03762. The norm comes first, as in Radford et al., "Language Models
are Unsupervised Multitask Learners", 2019, with which deep models train.
"""

from lingvo.core import hyperparams, layers

from lingvo_gpipe.models import attention, transformer_layers


def TransformerParams():
  """Params for `TransformerLayers`: by default a small model of bytes."""
  p = hyperparams.Params()
  p.Define('vocab_size', 259, 'Number of different ids.')
  p.Define('num_layers', 4, 'L.')
  p.Define(
    'model_dim', 256, "D, the width of the layers' inputs and outputs; even."
  )
  p.Define('hidden_dim', 1024, 'Width of the feed-forward networks.')
  p.Define('num_heads', 4, 'Attention heads; divides model_dim.')
  p.Define('activation', 'RELU', 'One of lingvo.core.activations.')
  p.Define(
    'tied',
    False,
    'Let the softmax use the weights of the embedding, which saves vocab_size '
    'times model_dim of them.',
  )
  p.Define(
    'packed',
    True,
    'Rows are segments of several texts, kept apart by the side inputs '
    "'segment_ids' and 'segment_pos'. Otherwise each row is one text.",
  )
  p.Define(
    'dropout',
    0.0,
    'Probability with which embeddings, and what a layer adds to them, are '
    'dropped in training.',
  )
  p.Define('attention_dropout', 0.0, 'The same for attention weights.')
  p.Define('hidden_dropout', 0.0, 'The same within the feed-forward networks.')
  return p


def TransformerLayers(p):
  """Params of the model's layers, in order.

  Returns:
    A list: 'embedding', 'layer_0' and so on, 'softmax'. In the default state
    of the weights a layer adds little, the less the more layers there are:
    what it adds is scaled by 1 / sqrt(2 L) (Radford et al., section 2.3).

  Raises:
    ValueError: a Param is not usable.
  """
  _Check(p)
  names = transformer_layers.SEGMENT_IDS, transformer_layers.SEGMENT_POS
  segment_ids, segment_pos = ([name] if p.packed else [] for name in names)
  embedding = transformer_layers.TransformerEmbedding.Params().Set(
    name='embedding',
    takes=segment_pos,
    vocab_size=p.vocab_size,
    model_dim=p.model_dim,
    dropout=_Dropout(p.dropout),
  )
  layer = transformer_layers.TransformerLayer.Params().Set(
    takes=segment_ids,
    model_dim=p.model_dim,
    hidden_dim=p.hidden_dim,
    activation=p.activation,
    residual_scale=(2 * p.num_layers) ** -0.5,
    attention=attention.CausalSelfAttention.Params().Set(
      num_heads=p.num_heads, dropout=_Dropout(p.attention_dropout)
    ),
    hidden_dropout=_Dropout(p.hidden_dropout),
    residual_dropout=_Dropout(p.dropout),
  )
  softmax = transformer_layers.TransformerSoftmax.Params().Set(
    name='softmax',
    weights_of={'table': 'embedding.table'} if p.tied else {},
    vocab_size=p.vocab_size,
    model_dim=p.model_dim,
  )
  named = [layer.Copy().Set(name=f'layer_{i}') for i in range(p.num_layers)]
  return [embedding, *named, softmax]


def _Dropout(probability):
  return layers.DeterministicDropoutLayer.Params().Set(
    keep_prob=1.0 - probability
  )


def _Check(p):
  for name in ('vocab_size', 'num_layers', 'model_dim', 'hidden_dim'):
    if p.Get(name) < 1:
      raise ValueError(
        f'Transformer: {name} must be positive, got {p.Get(name)}.'
      )
  if p.model_dim % 2:
    raise ValueError(
      'Transformer: model_dim must be even (positions are pairs of sine and '
      f'cosine), got {p.model_dim}.'
    )
  for name in ('dropout', 'attention_dropout', 'hidden_dropout'):
    if not 0.0 <= p.Get(name) < 1.0:
      raise ValueError(
        f'Transformer: {name} must lie in [0, 1), got {p.Get(name)}.'
      )
