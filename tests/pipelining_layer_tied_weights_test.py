# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of one layer that others use: one variable, all gradients summed."""

import functools

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tied_model
from lingvo.core import py_utils

from lingvo_gpipe import named_layers

_TABLE = 'net/embed/table/var:0'


@functools.cache
def _reference():
  return tied_model.step(tied_model.pipeline())


def test_gradients_are_those_of_the_unpipelined_model():
  plain = tied_model.step(tied_model.pipeline(), tied_model.compute_unpipelined)
  pt.assert_close(_reference(), plain, tolerance=1e-6)


@pytest.mark.parametrize(
  ('cuts', 'schedule', 'recompute'),
  [
    ((1, 2, 4), '1f1b', 'always'),
    ((1, 2, 4), 'gpipe', 'never'),
    ((2,), '1f1b', 'except_last'),
    ((3, 4), 'gpipe', 'always'),
  ],
)
def test_bit_identical_for_every_cut(cuts, schedule, recompute):
  params = tied_model.pipeline(cuts, schedule=schedule, recompute=recompute)
  pt.assert_identical(tied_model.step(params), _reference())


def test_there_is_one_variable():
  for cuts in ((), (1, 2, 4)):
    with pt.cluster(4), tf.Graph().as_default():
      layer = tied_model.pipeline(cuts).Instantiate()
      assert [v.name for v in tf.global_variables()] == [
        _TABLE,
        'net/l0/w/var:0',
        'net/l1/w/var:0',
      ]
      assert layer.vars.Flatten() == tf.global_variables()


def test_a_checkpoint_has_it_once_and_fits_every_cut(tmp_path):
  path = str(tmp_path / 'ckpt')
  tables = []
  for cuts in ((), (1, 2, 4)):
    with pt.cluster(4), tf.Graph().as_default() as graph:
      layer = tied_model.pipeline(cuts).Instantiate()
      saver = tf.train.Saver()
      with pt.session(4, graph) as sess:
        if cuts:
          saver.restore(sess, path)
        else:
          sess.run(tf.global_variables_initializer())
          saver.save(sess, path)
        tables.append(sess.run(layer.vars.Flatten()[0]))
  names = [name for name, _ in tf.train.list_variables(path)]
  assert [n for n in names if 'table' in n] == [_TABLE.removesuffix(':0')]
  np.testing.assert_array_equal(*tables)


def test_the_owner_may_come_later_than_the_user():
  def subs():
    embed, l0, again, l1, softmax = tied_model.layers()
    first = named_layers.WithNamedValues.Params().Set(
      name='first',
      body=tied_model.Embed.Params(),
      weights_of={'table': 'embed.body.table'},
    )
    last = named_layers.WithNamedValues.Params().Set(
      name='embed', body=_TableSoftmax.Params()
    )
    del embed, again, softmax
    return [first, l0, l1, last]

  results = [
    _step_without_side_inputs(tied_model.pipeline(cuts, subs=subs()))
    for cuts in ((), (1, 3))
  ]
  assert results[0].gradients['net/embed/table/var:0'] is not None
  pt.assert_identical(results[1], results[0])


class _TableSoftmax(tied_model.Embed):
  def FProp(self, theta, x):
    return tf.einsum('btd,vd->btv', x, theta.table)


def _step_without_side_inputs(params):
  def compute(layer):
    x, y = tf.constant(tied_model.ids()), tf.constant(tied_model.ids(2))
    return layer.ComputeLoss(layer.theta, x, y)

  return tied_model.step(params.Set(side_inputs=[]), compute)


def test_the_loss_can_use_weights_of_a_layer_before_the_pipeline():
  class SoftmaxLoss(named_layers.NamedValueLayer):
    def FProp(self, theta, x, labels):
      logits = tf.einsum('btd,vd->btv', x, theta.embed.table)
      return tied_model.Loss.FProp(self, theta, logits, labels)

  def params(cuts):
    embed, l0, _, l1, _ = tied_model.layers()
    return tied_model.pipeline(cuts, subs=[l0, l1]).Set(
      before_tpl=[embed],
      loss_tpl=SoftmaxLoss.Params().Set(
        name='loss', weights_of={'embed': 'embed'}
      ),
    )

  results = [_step_without_side_inputs(params(cuts)) for cuts in ((), (1,))]
  pt.assert_identical(results[1], results[0])
  # Of the same model, with the softmax as a layer of its own.
  embed, l0, _, l1, softmax = tied_model.layers()
  same = _step_without_side_inputs(
    tied_model.pipeline(subs=[embed, l0, l1, softmax])
  )
  pt.assert_close(results[0], same, 1e-6)


def test_weights_are_cast_on_their_owners_device_and_gradients_summed():
  results = [
    tied_model.step(tied_model.pipeline(cuts, fprop_dtype=tf.bfloat16))
    for cuts in ((), (2, 4))
  ]
  pt.assert_identical(results[1], results[0])
  pt.assert_close(results[0], _reference(), tolerance=0.1)


def test_a_tied_weight_is_sent_once_a_step_to_each_device():
  params = tied_model.pipeline((2, 4), num_micro_batches=3)
  with pt.cluster(3), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    loss = tied_model.compute_loss(layer).loss[0]
    gradients = tf.gradients(loss, tf.trainable_variables())
    shape = tf.TensorShape([tied_model.VOCAB, 3])
    owner, *users = layer.cell_devices
    metadata = tf.RunMetadata()
    with pt.session(3, graph) as sess:
      sess.run(tf.global_variables_initializer())
      sess.run(
        gradients,
        options=tf.RunOptions(output_partition_graphs=True),
        run_metadata=metadata,
      )
    sends = [
      (node.attr['send_device'].s.decode(), node.attr['recv_device'].s.decode())
      for part in metadata.partition_graphs
      for node in part.node
      if node.op == '_Send' and _source_shape(graph, node) == shape
    ]
    name = tf.DeviceSpec.from_string
    forward = [b for a, b in sends if name(a) == name(owner)]
    assert sorted(map(name, forward), key=str) == sorted(
      map(name, users), key=str
    )


def _source_shape(graph, send):
  """The static shape of what a _Send op sends; None if it is not known."""
  source = send.input[0].partition(':')
  try:
    op = graph.get_operation_by_name(source[0])
  except KeyError:
    return None
  return op.outputs[int(source[2] or 0)].shape


def test_weights_that_the_owner_has_not():
  subs = tied_model.layers(softmax='embed.matrix')
  with pytest.raises(ValueError, match=r"softmax uses .*'embed.matrix'.*table"):
    tied_model.step(tied_model.pipeline(subs=subs))


def test_evaluation_is_bit_identical():
  results = [
    tied_model.step(tied_model.pipeline(cuts), do_eval=True)
    for cuts in ((), (2, 4))
  ]
  np.testing.assert_equal(results[1].metrics, results[0].metrics)
