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

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import named_layers
from lingvo_gpipe.pipeline import named_values

BATCH = LENGTH = CLASSES = 4
SIDE_INPUTS = ['causal', 'temperature']
SHARED = [
  'inputs[1]',
  'targets.class_weights',
  'side_inputs.causal',
  'side_inputs.temperature',
]


class WithBias(base_layer.BaseLayer):
  """Returns x and a bias for each place."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'b',
      py_utils.WeightParams([1, LENGTH], py_utils.WeightInit.Gaussian(0.5)),
    )

  def FProp(self, theta, x):
    return x, -theta.b


class Attend(named_layers.NamedValueLayer):
  """Causal attention of [batch, LENGTH, WIDTH], and the bias added."""

  def __init__(self, params):
    super().__init__(params)
    shape = [tiny_pipeline.WIDTH] * 2
    self.CreateVariable(
      'w', py_utils.WeightParams(shape, py_utils.WeightInit.Gaussian(0.5))
    )

  def FProp(self, theta, x, bias):
    scores = tf.einsum('btd,bsd->bts', x, x) + self.Take('causal')
    weights = tf.nn.softmax(scores * self.Take('temperature'))
    x += tf.matmul(weights, tf.einsum('btd,de->bte', x, theta.w))
    return x + bias[..., tf.newaxis], bias


class Loss(base_layer.BaseLayer):
  """Cross-entropy, each example with the weight of its class."""

  def __init__(self, params):
    super().__init__(params)
    shape = [tiny_pipeline.WIDTH, CLASSES]
    self.CreateVariable(
      'w', py_utils.WeightParams(shape, py_utils.WeightInit.Gaussian(0.5))
    )

  def FProp(self, theta, outputs, targets):
    x, bias = outputs
    logits = tf.matmul(tf.reduce_mean(x, axis=1), theta.w) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=targets.labels, logits=logits
    )
    weights = tf.gather(targets.class_weights, targets.labels)
    total = tf.reduce_sum(weights)
    return {'loss': (tf.reduce_sum(losses * weights) / total, total)}


def pipeline(num_cells=2, num_micro_batches=4, **kwargs):
  subs = [
    Attend.Params().Set(name=f'l{i}', takes=SIDE_INPUTS) for i in range(3)
  ]
  kwargs.setdefault('shared_inputs', SHARED)
  return tiny_pipeline.pipeline(
    subs,
    num_cells,
    num_micro_batches,
    before_tpl=[WithBias.Params().Set(name='before')],
    side_inputs=SIDE_INPUTS,
    loss_tpl=Loss.Params().Set(name='loss'),
    **kwargs,
  )


def _data(trained=False):
  """Inputs, targets and side inputs.

  Args:
    trained: Whether the side inputs depend on a trained weight.
  """
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
  return x, targets, {'causal': causal, 'temperature': temperature}


def compute_loss(layer, **kwargs):
  """By ComputeLoss."""
  x, targets, side_inputs = _data(**kwargs)
  return layer.ComputeLoss(layer.theta, x, targets, side_inputs=side_inputs)


def compute_outside(layer, **kwargs):
  """By FProp, the loss outside."""
  x, targets, side_inputs = _data(**kwargs)
  outputs = layer.FProp(layer.theta, x, side_inputs=side_inputs)
  return _with_outputs(layer, outputs, targets)


def compute_plain(layer, **kwargs):
  """Without a pipeline."""
  x, targets, side_inputs = _data(**kwargs)
  outputs = layer.before.FProp(layer.theta.before, x)
  with named_values.scope(side_inputs):
    outputs = tiny_pipeline.unpipelined(layer, *outputs)
  return _with_outputs(layer, outputs, targets)


def _with_outputs(layer, outputs, targets):
  metrics = layer.loss.FProp(layer.theta.loss, outputs, targets)
  one = tf.constant(1.0)
  return py_utils.NestedMap(
    metrics, x=(outputs[0], one), bias=(outputs[1], one)
  )


def step(compute, do_eval=False, **kwargs):
  return pt.run_step(pipeline(**kwargs), None, compute=compute, do_eval=do_eval)
