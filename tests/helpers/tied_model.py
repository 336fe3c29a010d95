# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model whose softmax uses the embedding's weights, for tests.

A layer in the middle looks ids up in the same table, so the table's gradient
has three parts: two sparse, one dense.

```
  ids --> embed --> l0 --> again(ids) --> l1 --> softmax --> loss
            '.........weights.^..................^
```
"""

import declared
import example_model
import lingvo.compat as tf
import numpy as np
import tiny_pipeline
from lingvo.core import base_layer

from lingvo_gpipe import named_layers

VOCAB, LENGTH, BATCH = 6, 4, 5


class Embed(declared.Layer):
  """Ids of [batch, LENGTH] to vectors."""

  WEIGHTS = {'table': [VOCAB, tiny_pipeline.WIDTH]}
  DEVIATION = 0.7

  def FProp(self, theta, ids):
    return tf.gather(theta.table, ids)


class EmbedAgain(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return x + 2 * tf.gather(theta.embed.table, self.Take('ids'))


class Softmax(named_layers.NamedValueLayer):
  def FProp(self, theta, x):
    return tf.einsum('btd,vd->btv', x, theta.table)


class Linear(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    return x + tf.tanh(tf.einsum('btd,de->bte', x, theta.w))


class Loss(base_layer.BaseLayer):
  def FProp(self, theta, logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=tf.cast(logits, tf.float32)
    )
    tokens = tf.cast(tf.size(losses), tf.float32)
    return {'loss': (tf.reduce_sum(losses) / tokens, tokens)}


def layers(softmax='embed.table'):
  return [
    Embed.Params().Set(name='embed'),
    Linear.Params().Set(name='l0'),
    EmbedAgain.Params().Set(
      name='again', takes=['ids'], weights_of={'embed': 'embed'}
    ),
    Linear.Params().Set(name='l1'),
    Softmax.Params().Set(name='softmax', weights_of={'table': softmax}),
  ]


def batch():
  shape = [BATCH, LENGTH]
  ids, labels = (
    tf.constant(np.random.RandomState(seed).randint(VOCAB, size=shape))
    for seed in (0, 2)
  )
  return example_model.Batch(ids, labels, {'ids': ids})


MODEL = example_model.Model(
  layers(),
  batch,
  cuts=[(2, 4), (1, 2, 4)],
  loss=Loss.Params().Set(name='loss'),
  params={'num_micro_batches': 3, 'side_inputs': ['ids']},
  tolerance=1e-6,
)
