# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Transformer language model as a list of layers, to be cut anywhere.

```
  ids --> embedding --> layer_0 --> ... --> layer_L-1 --> softmax --> logits
             ^             ^                   ^
        segment_pos    segment_ids         segment_ids     (side inputs)
```

Besides `FProp`, for whole rows, each layer has `ZeroState` and `ExtendStep`, to
continue rows with a cache.

Sources: GPipe, arXiv:1811.06965; Vaswani et al., arXiv:1706.03762. Deep models
train if the norm comes first: Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019.
"""

import lingvo.compat as tf
from lingvo.core import activations, hyperparams, layers, py_utils

from lingvo_gpipe.engine.tensors import barrier
from lingvo_gpipe.models import attention
from lingvo_gpipe.named_layers import NamedValueLayer

# Names of the side inputs of packed rows, int32 [batch, time].
SEGMENT_IDS = 'segment_ids'
SEGMENT_POS = 'segment_pos'


class _VocabularyLayer(NamedValueLayer):
  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('vocab_size', 0, 'Number of different ids.')
    p.Define('model_dim', 0, 'The width of the layers between; even.')
    return p

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    p = self.params
    if 'table' in p.weights_of:
      return
    init = py_utils.WeightInit.Gaussian(p.model_dim**-0.5)
    self.CreateVariable(
      'table', py_utils.WeightParams([p.vocab_size, p.model_dim], init, p.dtype)
    )

  def ZeroState(self, batch, max_length):
    del batch, max_length
    return py_utils.NestedMap()


class TransformerEmbedding(_VocabularyLayer):
  """Token embeddings plus sinusoids of the position, which have no weights.

  The table starts with deviation 1 / sqrt(model_dim) and what is looked up is
  multiplied by sqrt(model_dim), so the same table can serve as the softmax's.
  Positions are the side input 'segment_pos' if `takes` has it.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dropout', layers.DeterministicDropoutLayer.Params(), 'Dropout.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    position = layers.PositionalEmbeddingLayer.Params().Set(
      embedding_dim=p.model_dim,
      # bfloat16 cannot tell positions above 256 apart.
      fprop_dtype=tf.float32,
    )
    self.CreateChild('position', position)
    self.CreateChild('dropout', p.dropout)

  def FProp(self, theta, ids):
    """Maps int ids [batch, time] to embeddings [batch, time, model_dim]."""
    if SEGMENT_POS in self.params.takes:
      positions = self.Take(SEGMENT_POS)
    else:
      positions = tf.range(py_utils.GetShape(ids)[1])[tf.newaxis]
    return self._Embed(theta, ids, positions)

  def ExtendStep(self, theta, ids, state, time):
    """Embeds ids [batch, new] at positions `time` and on."""
    new = py_utils.GetShape(ids)[1]
    positions = tf.range(time, time + new)[tf.newaxis]
    return self._Embed(theta, ids, positions), state

  def _Embed(self, theta, ids, positions):
    p = self.params
    with tf.name_scope(p.name):
      # A dense gradient. A sparse one has an entry a token, and the norm of
      # these is not that of their sum.
      table = barrier(theta.table, dense=True)
      tokens = tf.gather(table, ids) * p.model_dim**0.5
      places = self.position.FPropWithPosition(theta.position, positions)
      embeddings = tokens + tf.cast(places, tokens.dtype)
      return self.dropout.FProp(theta.dropout, embeddings)


class TransformerLayer(NamedValueLayer):
  """Self-attention and feed-forward network, each normalised first.

  ```
    x -+-> norm, attention, dropout -> + -+-> norm, network, dropout -> +
       '-------------------------------'  '-----------------------------'
  ```

  Rows are packed if `takes` has the side input 'segment_ids'.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('model_dim', 0, 'Last dimension of input and output.')
    p.Define('hidden_dim', 0, 'Width of the feed-forward network.')
    p.Define('activation', 'RELU', "The network's, of lingvo.core.activations.")
    self_attention = attention.CausalSelfAttention.Params()
    p.Define('attention', self_attention, 'Self-attention.')
    p.Define('residual_scale', 1.0, 'Scale of what is added to x, at first.')
    dropout = layers.DeterministicDropoutLayer.Params()
    p.Define('hidden_dropout', dropout.Copy(), 'Dropout within the network.')
    p.Define('residual_dropout', dropout, 'Dropout of what is added to x.')
    return p

  @classmethod
  def CostParams(cls, p):
    return p.Copy().Set(residual_scale=1.0)

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    # As a function of its own a norm could not be optimised with the rest.
    norm = layers.LayerNorm.Params().Set(input_dim=p.model_dim, use_defun=False)
    self.CreateChild('attention_norm', norm)
    self.CreateChild(
      'attention',
      p.attention.Copy().Set(
        model_dim=p.model_dim, output_scale=p.residual_scale
      ),
    )
    self.CreateChild('network_norm', norm)
    linear = attention.LinearLayer.Params()
    hidden = linear.Copy().Set(input_dim=p.model_dim, output_dim=p.hidden_dim)
    self.CreateChild('hidden', hidden)
    output = linear.Copy().Set(input_dim=p.hidden_dim, output_dim=p.model_dim)
    self.CreateChild('output', output.Set(scale=p.residual_scale))
    self.CreateChild('hidden_dropout', p.hidden_dropout)
    self.CreateChild('residual_dropout', p.residual_dropout)

  def FProp(self, theta, inputs):
    """Maps [batch, time, model_dim] to the same shape."""
    packed = SEGMENT_IDS in self.params.takes
    segment_ids = self.Take(SEGMENT_IDS) if packed else None
    with tf.name_scope(self.params.name):
      normalised = self.attention_norm.FProp(theta.attention_norm, inputs)
      attended = self.attention.FProp(theta.attention, normalised, segment_ids)
      return self._Network(theta, self._Add(theta, inputs, attended))

  def ZeroState(self, batch, max_length):
    return self.attention.ZeroState(batch, max_length)

  def ExtendStep(self, theta, inputs, state, time):
    with tf.name_scope(self.params.name):
      normalised = self.attention_norm.FProp(theta.attention_norm, inputs)
      attended, state = self.attention.ExtendStep(
        theta.attention, normalised, state, time
      )
      return self._Network(theta, self._Add(theta, inputs, attended)), state

  def _Add(self, theta, inputs, branch):
    return inputs + self.residual_dropout.FProp(theta.residual_dropout, branch)

  def _Network(self, theta, inputs):
    activation = activations.GetFn(self.params.activation)
    hidden = self.network_norm.FProp(theta.network_norm, inputs)
    hidden = activation(self.hidden.FProp(theta.hidden, hidden))
    hidden = self.hidden_dropout.FProp(theta.hidden_dropout, hidden)
    return self._Add(theta, inputs, self.output.FProp(theta.output, hidden))


class TransformerSoftmax(_VocabularyLayer):
  """The last norm, and logits: products with a vector for each id.

  The vectors are those of an embedding if `weights_of` says whose, as
  {'table': 'embedding.table'}; else the layer's own.
  """

  def __init__(self, params):
    super().__init__(params)
    norm = layers.LayerNorm.Params().Set(
      input_dim=self.params.model_dim, use_defun=False
    )
    self.CreateChild('norm', norm)

  def _CreateLayerVariables(self):
    super()._CreateLayerVariables()
    attention.create_bias(self, self.params.vocab_size)

  def FProp(self, theta, inputs):
    """Maps [batch, time, model_dim] to logits [batch, time, vocab_size]."""
    p = self.params
    with tf.name_scope(p.name):
      batch, time, _ = py_utils.GetShape(inputs)
      hidden = self.norm.FProp(theta.norm, inputs)
      rows = tf.reshape(hidden, [-1, p.model_dim])
      logits = tf.matmul(rows, theta.table, transpose_b=True)
      logits = tf.nn.bias_add(logits, theta.b)
      return tf.reshape(logits, [batch, time, p.vocab_size])

  def ExtendStep(self, theta, inputs, state, time):
    """Logits of the last of the new tokens, [batch, 1, vocab_size]."""
    del time
    return self.FProp(theta, inputs[:, -1:]), state


def TransformerParams():
  """Params for `TransformerLayers`: by default a small model of bytes."""
  p = hyperparams.Params()
  p.Define('vocab_size', 259, 'Number of different ids.')
  p.Define('num_layers', 4, 'L.')
  p.Define('model_dim', 256, 'D, the width between layers; even.')
  p.Define('hidden_dim', 1024, 'Width of the feed-forward networks.')
  p.Define('num_heads', 4, 'Attention heads; divides model_dim.')
  p.Define('activation', 'RELU', 'One of lingvo.core.activations.')
  p.Define('tied', False, "Let the softmax use the embedding's weights.")
  p.Define(
    'packed', True, "Rows are of several texts: 'segment_ids', 'segment_pos'."
  )
  p.Define('dropout', 0.0, 'Dropped share of embeddings, and what layers add.')
  p.Define('attention_dropout', 0.0, 'The same for attention weights.')
  p.Define('hidden_dropout', 0.0, 'The same within the feed-forward networks.')
  return p


def TransformerLayers(p):
  """Params of the model's layers, in order.

  They are 'embedding', 'layer_0' and so on, 'softmax'. At first what a layer
  adds is scaled by 1 / sqrt(2 L) (Radford et al., section 2.3).
  """
  if p.model_dim % 2:
    raise ValueError(
      'Transformer: model_dim must be even (positions are pairs of sine and '
      f'cosine), got {p.model_dim}.'
    )
  embedding = TransformerEmbedding.Params().Set(
    name='embedding',
    takes=[SEGMENT_POS] if p.packed else [],
    vocab_size=p.vocab_size,
    model_dim=p.model_dim,
  )
  embedding.dropout.keep_prob = 1.0 - p.dropout
  layer = TransformerLayer.Params().Set(
    takes=[SEGMENT_IDS] if p.packed else [],
    model_dim=p.model_dim,
    hidden_dim=p.hidden_dim,
    activation=p.activation,
    residual_scale=(2 * p.num_layers) ** -0.5,
  )
  layer.attention.num_heads = p.num_heads
  layer.attention.dropout.keep_prob = 1.0 - p.attention_dropout
  layer.hidden_dropout.keep_prob = 1.0 - p.hidden_dropout
  layer.residual_dropout.keep_prob = 1.0 - p.dropout
  softmax = TransformerSoftmax.Params().Set(
    name='softmax',
    weights_of={'table': 'embedding.table'} if p.tied else {},
    vocab_size=p.vocab_size,
    model_dim=p.model_dim,
  )
  named = [layer.Copy().Set(name=f'layer_{i}') for i in range(p.num_layers)]
  return [embedding, *named, softmax]
