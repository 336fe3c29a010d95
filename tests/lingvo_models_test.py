# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import sys
import types

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
from lingvo.core import (
  batch_major_attention,
  gpipe,
  layers,
  layers_with_gpipe,
  py_utils,
)
from lingvo.tasks.lm import layers as lm_layers

from lingvo_gpipe import lingvo_models, pipelining_layer

_OURS = pipelining_layer.PipeliningLayer
# In a tuple: a name of a module would be bound to ours too.
_LINGVOS = (gpipe.PipeliningLayer,)
_BATCH, _TIME, _DIM, _VOCAB = 4, 5, 4, 8


def test_modules_that_have_lingvos_layers_by_name_get_ours(monkeypatch):
  module = types.ModuleType('module_for_a_test')
  module.Mine = gpipe.PipeliningLayer
  monkeypatch.setitem(sys.modules, module.__name__, module)
  with lingvo_models.our_engine():
    assert gpipe.PipeliningLayer is _OURS
    assert module.Mine is _OURS
    for name in ('FeatureExtractionLayer', 'PartitionSequentialLayers'):
      assert getattr(gpipe, name) is getattr(pipelining_layer, name)
    assert issubclass(layers_with_gpipe.GPipeTransformerStack, _OURS)
    with lingvo_models.our_engine():  # Within itself it does nothing.
      lingvo_models.use_our_engine()
    assert gpipe.PipeliningLayer is _OURS
  assert gpipe.PipeliningLayer is _LINGVOS[0]
  assert not issubclass(layers_with_gpipe.GPipeTransformerStack, _OURS)
  assert module.Mine is _LINGVOS[0]


def test_a_class_of_ones_own_derives_from_our_layer_and_back():
  class Mine(gpipe.PipeliningLayer):
    @classmethod
    def Params(cls):
      return super().Params().Set(batch_dim=1)

  with lingvo_models.our_engine():
    assert issubclass(Mine, _OURS)
    assert Mine.Params().schedule == 'gpipe'
    assert Mine.Params().batch_dim == 1
  assert issubclass(Mine, _LINGVOS)


def _lm_params(splits, num_micro_batches):
  p = lm_layers.GPipeTransformerLm.CommonParams(
    vocab_size=_VOCAB,
    model_dim=_DIM,
    hidden_dim=6,
    num_heads=2,
    num_layers=4,
    splits=splits,
    num_micro_batches=num_micro_batches,
    num_shards=1,
  )
  p.stack.emb_tpl.dropout_tpl = layers.DeterministicDropoutLayer.Params()
  # With one split and one micro-batch Lingvo leaves the other dropout in.
  p.stack.encoder_tpl = p.stack.encoder_tpl.cls.SetupDeterministicDropout(
    p.stack.encoder_tpl
  )
  p.stack.emb_tpl.input_dropout_prob = 0.2
  p.stack.encoder_tpl.tr_atten_tpl.atten_dropout_prob = 0.2
  p.stack.encoder_tpl.tr_atten_tpl.residual_dropout_prob = 0.2
  p.stack.encoder_tpl.tr_fflayer_tpl.residual_dropout_prob = 0.2
  p.stack.encoder_tpl.tr_fflayer_tpl.relu_dropout_prob = 0.2
  return p


def _lm_loss(lm):
  rng = np.random.RandomState(5)
  ids = tf.constant(rng.randint(_VOCAB, size=[_BATCH, _TIME]), tf.int32)
  labels = tf.constant(rng.randint(_VOCAB, size=[_BATCH, _TIME]), tf.int32)
  paddings = np.zeros([_BATCH, _TIME], np.float32)
  paddings[1, 3:] = 1.0
  labels = py_utils.NestedMap(
    class_ids=labels, class_weights=tf.constant(1 - paddings)
  )
  output, _ = lm.FPropDefaultTheta(ids, tf.constant(paddings), labels=labels)
  return output.avg_xent


def _stack_params(splits, num_micro_batches):
  """An encoder and decoder, time-major; None crosses the boundaries."""
  p = layers_with_gpipe.GPipeTransformerStack.Params().Set(
    name='transformer',
    model_dim=_DIM,
    num_encoder_layers=2,
    num_decoder_layers=2,
    splits=splits,
    num_micro_batches=num_micro_batches,
    is_transparent=True,
    transparent_merger_dropout_prob=0.0,
  )
  for tpl in (p.encoder_tpl, p.decoder_tpl):
    tpl.source_dim = _DIM
    tpl.tr_atten_tpl.num_attention_heads = 2
    tpl.tr_fflayer_tpl.hidden_dim = 6
  p.softmax_tpl.Set(input_dim=_DIM, num_classes=_VOCAB)
  p.emb_tpl.token_emb.Set(
    use_matmul=False,
    use_3d_weight_tensor=False,
    vocab_size=_VOCAB,
    embedding_dim=_DIM,
  )
  p.emb_tpl.position_emb.Set(embedding_dim=_DIM, trainable_scaling=False)
  return p


def _stack_loss(stack):
  rng = np.random.RandomState(6)

  def ids(time):
    return tf.constant(rng.randint(_VOCAB, size=[time, _BATCH]), tf.int32)

  source, target, labels = ids(_TIME), ids(3), ids(3)
  per_example, _ = stack.FPropDefaultTheta(
    source,
    tf.zeros([_TIME, _BATCH]),
    target,
    tf.zeros([3, _BATCH]),
    labels=labels,
    label_weights=tf.ones([3, _BATCH]),
  )
  return tf.reduce_mean(per_example)


def _train(params, loss_fn, num_devices):
  """Loss before and after a step of gradient descent, and new weights."""
  with pt.graph(num_devices) as graph:
    step = py_utils.GetGlobalStep()
    loss = loss_fn(params.Instantiate())
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
    pairs = [
      (g, v) for g, v in zip(gradients, variables, strict=True) if g is not None
    ]
    train = tf.train.GradientDescentOptimizer(0.5).apply_gradients(pairs)
    with pt.session(num_devices, graph) as sess:
      sess.run(tf.global_variables_initializer())
      sess.run(tf.assign(step, 3))
      before, _ = sess.run((loss, train))
      after = sess.run(loss)
      weights = dict(
        zip([v.name for v in variables], sess.run(variables), strict=True)
      )
  return before, after, weights


def _train_on_ours(params_fn, loss_fn, splits, num_micro_batches):
  with lingvo_models.our_engine():
    params = params_fn(splits, num_micro_batches)
    count = splits if isinstance(splits, int) else len(splits)
    return _train(params, loss_fn, count)


@pytest.mark.parametrize(
  ('params_fn', 'loss_fn', 'splits'),
  [(_lm_params, _lm_loss, 2), (_stack_params, _stack_loss, [1, 4])],
)
def test_a_training_step_is_that_of_one_cell(params_fn, loss_fn, splits):
  before, after, weights = _train_on_ours(params_fn, loss_fn, splits, 2)
  one_cell = _train_on_ours(params_fn, loss_fn, 1, 2)
  assert after < before
  assert before == one_cell[0]
  assert weights.keys() == one_cell[2].keys()
  for name, weight in weights.items():
    np.testing.assert_array_equal(weight, one_cell[2][name], err_msg=name)


def test_a_stack_of_the_attention_builder_runs_on_our_layer():
  def params(num_splits, num_micro_batches):
    builder = batch_major_attention.Builder.Params().Set(
      model_dim=_DIM,
      num_heads=2,
      ff_hidden_dim=6,
      num_splits=num_splits,
      num_micro_batches=num_micro_batches,
      deterministic_dropout=True,
    )
    p = builder.Instantiate().TransformerEncoderStack('stack', 2)
    return p.Set(params_init=py_utils.WeightInit.Xavier(scale=1.0, seed=1))

  def loss(layer):
    vec = np.random.RandomState(8).randn(_BATCH, _TIME, _DIM)
    outputs = layer.FPropDefaultTheta(
      py_utils.NestedMap(
        vec=tf.constant(vec, tf.float32), paddings=tf.zeros([_BATCH, _TIME])
      )
    )
    return tf.reduce_mean(tf.square(outputs.vec - 1.0))

  with lingvo_models.our_engine():
    pipelined = _train(params(2, 2), loss, 2)
    plain = _train(params(1, 1), loss, 1)
  assert pipelined[1] != pipelined[0]
  np.testing.assert_allclose(pipelined[:2], plain[:2], rtol=1e-5)
