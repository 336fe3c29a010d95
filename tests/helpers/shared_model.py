# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model whose layers take what all examples share, for tests.

Sequences are as long as the mini-batch is large, and there are as many classes,
so that shapes tell nothing.

```
  x, labels                    [BATCH, ...]   cut
  bias, made before the cells  [1, LENGTH]    shared input, with a gradient
  causal mask, temperature     [LENGTH, LENGTH], []  shared side inputs
  class weights                [CLASSES]      shared target
```
"""

import declared
import example_model
import lingvo.compat as tf
import numpy as np
import tiny_pipeline
from lingvo.core import py_utils

from lingvo_gpipe import named_layers

BATCH = LENGTH = CLASSES = 4
SIDE_INPUTS = ['causal', 'temperature']
SHARED = [
  'inputs[1]',
  'targets.class_weights',
  'side_inputs.causal',
  'side_inputs.temperature',
]


class WithBias(declared.Layer):
  WEIGHTS = {'b': [1, LENGTH]}

  def FProp(self, theta, x):
    return x, -theta.b


class Attend(declared.Layer, named_layers.NamedValueLayer):
  """Causal attention of [batch, LENGTH, WIDTH], and the bias added."""

  WEIGHTS = {'w': [tiny_pipeline.WIDTH] * 2}

  def FProp(self, theta, x, bias):
    scores = tf.einsum('btd,bsd->bts', x, x) + self.Take('causal')
    weights = tf.nn.softmax(scores * self.Take('temperature'))
    x += tf.matmul(weights, tf.einsum('btd,de->bte', x, theta.w))
    return x + bias[..., tf.newaxis], bias


class Loss(declared.Layer):
  """Cross-entropy, each example with the weight of its class."""

  WEIGHTS = {'w': [tiny_pipeline.WIDTH, CLASSES]}

  def FProp(self, theta, outputs, targets):
    x, bias = outputs
    logits = tf.matmul(tf.reduce_mean(x, axis=1), theta.w) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=targets.labels, logits=logits
    )
    weights = tf.gather(targets.class_weights, targets.labels)
    total = tf.reduce_sum(weights)
    return {'loss': (tf.reduce_sum(losses * weights) / total, total)}


def batch(trained=False):
  rng = np.random.RandomState(3)
  shape = [BATCH, LENGTH, tiny_pipeline.WIDTH]
  x = tf.constant(rng.randn(*shape), tf.float32)
  targets = py_utils.NestedMap(
    labels=np.array([3, 0, 1, 3]), class_weights=[0.5, 1.0, 2.0, 4.0]
  )
  causal = -1e9 * (1 - np.tri(LENGTH, dtype=np.float32))
  temperature = 0.7
  if trained:
    front = WithBias.Params().Set(name='front').Instantiate()
    _, bias = front.FPropDefaultTheta(x)
    causal, temperature = causal + bias, tf.exp(bias[0, 0])
  sides = {'causal': causal, 'temperature': temperature}
  return example_model.Batch(x, targets, sides)


MODEL = example_model.Model(
  [Attend.Params().Set(name=f'l{i}', takes=SIDE_INPUTS) for i in range(3)],
  batch,
  cuts=[2, 3],
  loss=Loss.Params().Set(name='loss'),
  params={
    'before_tpl': [WithBias.Params().Set(name='before')],
    'side_inputs': SIDE_INPUTS,
    'shared_inputs': SHARED,
  },
)
