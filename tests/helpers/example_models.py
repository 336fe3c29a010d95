# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small models, each with something that a pipeline could get wrong."""

import dataclasses

import declared
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import shared_model
import tied_model
import tiny_pipeline
import unet
from example_model import Batch, Model, inside
from lingvo.core import base_layer, py_utils, recurrent

from lingvo_gpipe import named_layers

WIDTH = tiny_pipeline.WIDTH
BATCH = 7  # In micro-batches of 2, 2, 2 and 1.
Linear = tiny_pipeline.Linear


def linear_batch(size=BATCH):
  x = tf.constant(tiny_pipeline.inputs(size))
  return Batch(x, tf.zeros_like(x))


def layers_of(cls, count=2, **kwargs):
  return [cls.Params().Set(name=f'l{i}', **kwargs) for i in range(count)]


class LossWithoutTargets(base_layer.BaseLayer):
  def FProp(self, theta, outputs, targets):
    assert targets is None
    return tiny_pipeline.MeanSquare.FProp(self, theta, outputs, 1.0)


class WithUnusedWeight(Linear):
  WEIGHTS = {'unused': [2]}


def convolution_batch(size=BATCH):
  examples = pt.data(size)
  return Batch(examples.inputs, examples.targets)


def _batch_of_unknown_size():
  batch = linear_batch()
  x = tf.placeholder_with_default(batch.inputs, [None, WIDTH])
  return Batch(x, tf.zeros_like(x))


def _takers():
  a, *others = tiny_pipeline.linear(*'abcde')
  subs = [a, unet.put('put', 'x')]
  for i, layer in enumerate(others):
    subs += [layer, unet.take(f't{i}', 'x', combine='add')]
  return subs


class Masked(declared.Layer, named_layers.NamedValueLayer):
  WEIGHTS = {'w': [WIDTH, WIDTH]}

  def FProp(self, theta, x):
    segments = self.Take('segments')
    x += tf.matmul(x, theta.w) * segments.mask
    if segments.ids is not None:
      x += tf.gather(theta.w, segments.ids)
    return x


class PutsSegments(named_layers.NamedValueLayer):
  """Puts a mask with a gradient, ids without one, and None aside."""

  def FProp(self, theta, x):
    ids = tf.cast(x[:, 0] > 0, tf.int32)
    mask = tf.sigmoid(x[:, :1])
    self.Put('segments', py_utils.NestedMap(mask=mask, ids=ids, none=None))
    return x


def _masked(*names):
  return [Masked.Params().Set(name=n, takes=['segments']) for n in names]


def _puts_segments():
  a, b, c = tiny_pipeline.linear(*'abc')
  m0, m1 = _masked('m0', 'm1')
  put = PutsSegments.Params().Set(name='put', puts=['segments'])
  return [a, put, b, m0, c, m1]


class SideWeightedLoss(named_layers.NamedValueLayer):
  def FProp(self, theta, outputs, targets):
    weights = self.Take('weights')
    total = tf.reduce_sum(weights)
    error = tf.reduce_sum(tf.square(outputs - targets), axis=-1)
    loss = tf.math.divide_no_nan(tf.reduce_sum(error * weights), total)
    return {'loss': (loss, total)}


def side_inputs_batch(with_ids=True):
  rng = np.random.RandomState(5)
  ids = tf.constant(rng.randint(3, size=BATCH)) if with_ids else None
  mask = tf.constant(rng.randint(2, size=[BATCH, 1]), tf.float32)
  sides = {
    'segments': py_utils.NestedMap(mask=mask, ids=ids),
    'weights': tf.constant(rng.rand(BATCH), tf.float32),
  }
  x = tf.constant(tiny_pipeline.inputs(BATCH))
  return Batch(x, tf.zeros_like(x), sides)


def _of_trained_weights():
  """Side inputs and targets that depend on a layer in front."""
  [front] = tiny_pipeline.linear('front')
  x = tf.constant(tiny_pipeline.inputs(BATCH, 3))
  hidden = front.Instantiate().FPropDefaultTheta(x)
  batch = side_inputs_batch()
  batch.side_inputs['segments'].mask *= tf.sigmoid(hidden[:, :1])
  return Batch(batch.inputs, tf.tanh(hidden), batch.side_inputs)


def _side_inputs(batch):
  a, b, c = tiny_pipeline.linear(*'abc')
  m0, m1 = _masked('m0', 'm1')
  return Model(
    [a, m0, b, m1, c],
    batch,
    cuts=[(1, 2, 4), (1, 2)],
    loss=SideWeightedLoss.Params().Set(name='loss', takes=['weights']),
    params={'side_inputs': ['segments', 'weights'], 'num_micro_batches': 3},
  )


class TableSoftmax(tied_model.Embed):
  def FProp(self, theta, x):
    return tf.einsum('btd,vd->btv', x, theta.table)


class TiedLoss(named_layers.NamedValueLayer):
  def FProp(self, theta, x, labels):
    logits = tf.einsum('btd,vd->btv', x, theta.embed.table)
    return tied_model.Loss.FProp(self, theta, logits, labels)


def _ids_only():
  batch = tied_model.batch()
  return Batch(batch.inputs, batch.targets)


def _tied(subs, cuts, loss=tied_model.MODEL.loss, **params):
  params['num_micro_batches'] = 3
  return Model(subs, _ids_only, cuts, loss, params, tolerance=1e-6)


def _tied_models():
  embed, l0, _, l1, _ = tied_model.layers()
  wrap = named_layers.WithNamedValues.Params()
  first = wrap.Copy().Set(
    name='first',
    body=tied_model.Embed.Params(),
    weights_of={'table': 'embed.body.table'},
  )
  last = wrap.Copy().Set(name='embed', body=TableSoftmax.Params())
  loss = TiedLoss.Params().Set(name='loss', weights_of={'embed': 'embed'})
  return {
    'tied to a later layer': _tied([first, l0, l1, last], [(1, 3)]),
    'tied to the loss': _tied([l0, l1], [(1,)], loss, before_tpl=[embed]),
  }


class Table(declared.Layer):
  """Looks up ids, [batch, 2], in a table, twice; may multiply by it as well."""

  ROWS = 50
  PARAMS = {'dense_too': False}
  WEIGHTS = {'table': [ROWS, WIDTH]}

  def FProp(self, theta, ids):
    x = tf.reduce_sum(tf.nn.embedding_lookup(theta.table, ids), axis=1)
    x += tf.gather(self.vars.table, ids[:, 0])
    if self.params.dense_too:
      x += tf.matmul(tf.one_hot(ids[:, 1], self.ROWS), theta.table)
    return x


def table_batch():
  # Repeated within an example, a micro-batch and across micro-batches.
  ids = [[0, 0], [0, 1], [3, 1], [1, 1], [3, 0], [0, 2], [2, 49]]
  return Batch(tf.constant(ids), tf.constant(tiny_pipeline.inputs(BATCH)))


def table_model(dense_too=False):
  table = Table.Params().Set(name='emb', dense_too=dense_too)
  subs = [table, *tiny_pipeline.linear('a', 'b', 'c')]
  return Model(subs, table_batch, [2, 4])


class WeightedMean(declared.Layer):
  """A mean by plain division: 0 / 0 if nothing has a weight."""

  PARAMS = {'scale': 1.0}
  WEIGHTS = {'table': [5]}

  def FProp(self, theta, outputs, targets):
    bias = tf.cast(tf.gather(theta.table, targets.ids), tf.float32)
    each = tf.reduce_sum(tf.cast(tf.square(outputs), tf.float32), axis=-1)
    total = tf.reduce_sum((each + bias) * targets.weights)
    weight = tf.reduce_sum(targets.weights)
    return {'loss': (self.params.scale * total / weight, weight)}


class AuxLoss(Linear):
  """Adds the mean, over examples that are not 0, of |x w|^2."""

  def FProp(self, theta, x):
    used = tf.cast(tf.reduce_any(tf.not_equal(x, 0), axis=-1), tf.float32)
    each = tf.reduce_sum(tf.square(tf.matmul(x, theta.w)), axis=-1)
    py_utils.AuxLossContext.Current().AddLoss(
      tf.reduce_sum(each * used) / tf.reduce_sum(used)
    )
    return super().FProp(theta, x)


def weighted_batch(weights, scale=1.0, dtype=tf.float32):
  """Eight examples; what has no weight is 0."""
  weights = np.array(weights, np.float32)
  x = tiny_pipeline.inputs() * (weights != 0)[:, None] * scale
  targets = py_utils.NestedMap(
    ids=tf.constant([0, 1, 1, 2, 3, 3, 3, 0]), weights=tf.constant(weights)
  )
  return Batch(tf.cast(x, dtype), targets)


def weighted_model(subs, weights, **kwargs):
  loss = WeightedMean.Params().Set(name='loss')
  return Model(subs, lambda: weighted_batch(weights), loss=loss, **kwargs)


class ReadsItsVariable(Linear):
  def FProp(self, theta, x):
    w = self.vars.w
    assert (w.shape, w.dtype) == ([WIDTH, WIDTH], tf.float32)
    return x + tf.matmul(x, w) * 2.0 + tf.matmul(x, theta.w + w[0])


class CastThenReadsVariable(Linear):
  """Its variable is not what is in theta, which is cast to bfloat16."""

  def FProp(self, theta, x):
    assert theta.w.dtype == tf.bfloat16
    return x + tf.matmul(x, tf.cast(theta.w, x.dtype)) + self.vars.w[0]


class Captures(Linear):
  """Uses tensors, and a variable of no layer, from outside of the pipeline."""

  outside = variable = None

  def __init__(self, params):
    super().__init__(params)
    self.constant = tf.constant([1.0, 2.0, 3.0])

  def FProp(self, theta, x):
    cls = type(self)
    x = super().FProp(theta, x) * self.constant + cls.outside
    return x * cls.variable.read_value()


def _capturing_batch():
  Captures.variable = tf.get_variable('outside', [WIDTH], use_resource=True)
  Captures.outside = 2.0 * Captures.variable
  return linear_batch()


class Loop(declared.Layer):
  PARAMS = {'keep_prob': 1.0}
  WEIGHTS = {'w': [WIDTH, WIDTH]}

  def FProp(self, theta, x):
    def cell(theta, state, inputs):
      del inputs
      y = tf.tanh(tf.matmul(state.x, theta.w))
      if self.params.keep_prob < 1.0:
        seeds = py_utils.GenerateStepSeedPair(self.params)
        y = py_utils.DeterministicDropout(y, self.params.keep_prob, seeds)
      return py_utils.NestedMap(x=y), py_utils.NestedMap()

    _, final = recurrent.Recurrent(
      py_utils.NestedMap(w=theta.w),
      py_utils.NestedMap(x=x),
      py_utils.NestedMap(t=tf.zeros([3])),
      cell,
    )
    return final.x


MODELS = {
  'convolutions': Model(
    pt.layer_params(),
    convolution_batch,
    cuts=[3],
    loss=pt.Loss.Params().Set(name='loss'),
  ),
  'loss without targets': Model(
    tiny_pipeline.linear('a', 'b'),
    lambda: Batch(linear_batch().inputs, None),
    loss=LossWithoutTargets.Params().Set(name='loss'),
  ),
  'unknown batch size': Model(
    tiny_pipeline.linear('a', 'b'), _batch_of_unknown_size
  ),
  'unused weight': Model(layers_of(WithUnusedWeight), linear_batch),
  'skips': unet.MODEL,
  'many takers': Model(_takers(), linear_batch, [(2, 4, 6, 8), (1, 5)]),
  'a nest put aside': Model(
    _puts_segments(), linear_batch, [(2, 4), (2, 3, 5)]
  ),
  'side inputs': _side_inputs(side_inputs_batch),
  'None in side inputs': _side_inputs(lambda: side_inputs_batch(False)),
  'side inputs of trained weights': _side_inputs(_of_trained_weights),
  'shared inputs': shared_model.MODEL,
  'shared inputs of trained weights': dataclasses.replace(
    shared_model.MODEL,
    batch=lambda: shared_model.batch(trained=True),
    # Micro-batches of two sizes.
    params={**shared_model.MODEL.params, 'num_micro_batches': 3},
  ),
  'tied weights': tied_model.MODEL,
  **_tied_models(),
  'rows of a table': table_model(),
  'table by rows and as a whole': table_model(dense_too=True),
  'no weight in a micro-batch': weighted_model(
    tiny_pipeline.linear('a', 'b'), (0, 0, 2, 1, 0, 0, 0, 3)
  ),
  'auxiliary loss': Model(layers_of(AuxLoss), linear_batch),
  'auxiliary loss of a micro-batch without weight': weighted_model(
    layers_of(AuxLoss), (1, 1, 0, 0, 1, 1, 1, 1), computes=[inside]
  ),
  'variables for theta': Model(layers_of(ReadsItsVariable), linear_batch),
  'variables that theta has cast': Model(
    layers_of(CastThenReadsVariable, fprop_dtype=tf.bfloat16),
    linear_batch,
    tolerance=2e-2,
  ),
  'captured tensors': Model(layers_of(Captures), _capturing_batch),
  'loops': Model(layers_of(Loop), linear_batch),
}
