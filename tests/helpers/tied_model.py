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

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
import unet
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values, tied_weights

VOCAB, LENGTH, BATCH = 6, 4, 5


class Embed(base_layer.BaseLayer):
  """Ids of [batch, LENGTH] to vectors."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'table',
      py_utils.WeightParams(
        [VOCAB, tiny_pipeline.WIDTH], py_utils.WeightInit.Gaussian(0.7)
      ),
    )

  def FProp(self, theta, ids):
    return tf.gather(theta.table, ids)


class EmbedAgain(named_layers.NamedValueLayer):
  """Adds the vectors of ids that are a side input."""

  def FProp(self, theta, x):
    return x + 2 * tf.gather(theta.embed.table, self.Take('ids'))


class Softmax(named_layers.NamedValueLayer):
  """Logits by the transposed table."""

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


def pipeline(cuts=(), **kwargs):
  subs = kwargs.pop('subs', None) or layers()
  params = unet.pipeline(subs, cuts, side_inputs=['ids'], **kwargs)
  return params.Set(loss_tpl=Loss.Params().Set(name='loss'))


def ids(seed=0):
  shape = [BATCH, LENGTH]
  return np.random.RandomState(seed).randint(VOCAB, size=shape)


def compute_loss(layer):
  x = tf.constant(ids())
  return layer.ComputeLoss(
    layer.theta, x, tf.constant(ids(2)), side_inputs={'ids': x}
  )


def compute_unpipelined(layer):
  x = tf.constant(ids())
  theta = tied_weights.tie(layer, layer.theta)
  with named_values.scope({'ids': x}):
    y = x
    for cell in layer.cells:
      y = cell.FProp(theta[cell.params.name], y)
  return layer.loss.FProp(theta.loss, y, tf.constant(ids(2)))


def step(params, compute=compute_loss, **kwargs):
  return pt.run_step(params, None, compute=compute, **kwargs)
