# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import types

import declared
import lingvo.compat as tf
import local_training
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import py_utils

from lingvo_gpipe.training import loss_guard

FLAGS = tf.flags.FLAGS
# stand_in_pipeline.SmallNan computes NaN in the step after so many.
NAN_AT_STEP = 3
_PLACE = (
  f'Step {NAN_AT_STEP + 1}: the loss is not finite; NaN first in cell_1, layer '
  'log, op log/Log (Log), of micro-batch 0.'
)


def _train(policy):
  FLAGS.on_nan_loss = policy
  FLAGS.max_steps = NAN_AT_STEP + 2
  return local_training.train('stand_in_pipeline.SmallNan')[1]


def _checkpoint(directory, step):
  reader = tf.train.load_checkpoint(f'{directory}/train/ckpt-{step:08d}')
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name != 'global_step'
  }


def test_stop_names_cell_and_layer_and_leaves_the_checkpoint(local_run):
  with pytest.raises(loss_guard.NonFiniteLossError) as raised:
    _train('stop')
  assert str(raised.value).startswith(_PLACE)
  assert '--on_nan_loss=skip' in str(raised.value)
  assert tf.train.latest_checkpoint(local_run / 'train').endswith('00000001')


def test_a_skipped_step_changes_no_variable(local_run, warnings):
  FLAGS.model_params_override = (
    'train.save_interval_steps:1;task.train.save_interval_steps:1'
  )
  losses = _train('skip')
  assert warnings.getvalue() == f'Warning: {_PLACE} The step is skipped.\n'
  assert [step for step, x in losses.items() if np.isnan(x)] == [
    NAN_AT_STEP + 1
  ]
  before, skipped, after = (
    _checkpoint(local_run, NAN_AT_STEP + more) for more in range(3)
  )
  assert set(before) == set(skipped) == set(after)
  for name in before:
    np.testing.assert_array_equal(before[name], skipped[name], name)
  assert any(np.any(skipped[name] != after[name]) for name in before)


class Table(declared.Layer):
  """Looks up ids, [batch], in a table."""

  WEIGHTS = {'table': [5, tiny_pipeline.WIDTH]}

  def FProp(self, theta, ids):
    return tf.gather(theta.table, ids)


def test_tasks_that_read_rows_of_a_variable_do_not_wait_for_the_loss():
  subs = [Table.Params().Set(name='emb'), *tiny_pipeline.linear('l')]
  with pt.cluster(2), tf.Graph().as_default() as graph:
    step = py_utils.GetOrCreateGlobalStepVar()
    net = tiny_pipeline.with_loss(subs, 1)
    task = tiny_pipeline.task_params(net).Instantiate()
    y = tf.constant(tiny_pipeline.inputs())
    task.FPropDefaultTheta(py_utils.NestedMap(x=tf.range(8) % 5, y=y))
    task.BProp()
    initialise = tf.global_variables_initializer()
    model = types.SimpleNamespace(tasks=[task], global_step=step)
    guard = loss_guard.LossGuard(model, 'stop')
    config = tf.compat.v1.ConfigProto(device_count={'CPU': 2})
    calls = [op for op in graph.get_operations() if 'Partitioned' in op.type]
    waiting = [
      op.name
      for op in calls
      if any('check_loss' in before.name for before in op.control_inputs)
    ]
    assert calls and not waiting
    with guard.session(None, graph=graph, config=config) as session:
      session.run(initialise)
      table = task.vars.net.d0.emb.table
      before = session.run(table)
      session.run([task.train_op])
      assert np.all(session.run(table) != before)
