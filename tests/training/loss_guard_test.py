# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import types

import declared
import lingvo.compat as tf
import local_training
import numpy as np
import pipeline_testing as pt
import pytest
import stand_in_pipeline
import tiny_pipeline
from lingvo.core import optimizer, py_utils

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
    local_training.checkpoint(local_run, NAN_AT_STEP + more)
    for more in range(3)
  )
  assert set(before) == set(skipped) == set(after)
  names = set(before) - {'global_step'}
  for name in names:
    np.testing.assert_array_equal(before[name], skipped[name], name)
  assert any(np.any(skipped[name] != after[name]) for name in names)


@contextlib.contextmanager
def _guarded(build, policy):
  with pt.graph(2) as graph:
    tf.random.set_seed(7)
    task = build()
    model = types.SimpleNamespace(
      tasks=[task], global_step=py_utils.GetOrCreateGlobalStepVar()
    )
    initialise = tf.global_variables_initializer()
    config = tf.compat.v1.ConfigProto(device_count={'CPU': 2})
    how = model, loss_guard.gate(model), policy, None
    with loss_guard.Session(*how, graph=graph, config=config) as session:
      session.run(initialise)
      yield task, session


class Table(declared.Layer):
  WEIGHTS = {'table': [5, tiny_pipeline.WIDTH]}

  def FProp(self, theta, ids):
    return tf.gather(theta.table, ids)


def _build_with_table():
  subs = [Table.Params().Set(name='emb'), *tiny_pipeline.linear('l')]
  net = tiny_pipeline.with_loss(subs, 1)
  task = tiny_pipeline.task_params(net).Instantiate()
  y = tf.constant(tiny_pipeline.inputs())
  task.FPropDefaultTheta(py_utils.NestedMap(x=tf.range(8) % 5, y=y))
  task.BProp()
  return task


def _build_with_one_batch():
  net = tiny_pipeline.with_loss(tiny_pipeline.linear('l'), 1)
  task = tiny_pipeline.task_params(net).Instantiate()
  data = tf.data.Dataset.from_tensors(tiny_pipeline.inputs())
  x = tf.data.make_one_shot_iterator(data).get_next()
  is_right = tf.reduce_max(x) > 1e9
  check = tf.debugging.Assert(is_right, ['on purpose'])
  with tf.control_dependencies([check]):
    x = tf.identity(x)
  task.FPropDefaultTheta(py_utils.NestedMap(x=x, y=x))
  task.BProp()
  return task


def test_a_failed_assertion_is_told_though_the_search_finds_no_more_input():
  with (
    _guarded(_build_with_one_batch, 'stop') as (task, session),
    pytest.raises(tf.errors.InvalidArgumentError, match='on purpose'),
  ):
    session.run([task.train_op])


def test_tasks_that_read_rows_of_a_variable_do_not_wait_for_the_loss():
  with _guarded(_build_with_table, 'stop') as (task, session):
    operations = session.graph.get_operations()
    calls = [op for op in operations if 'Partitioned' in op.type]
    waiting = [
      op.name
      for op in calls
      if any('check_loss' in before.name for before in op.control_inputs)
    ]
    assert calls and not waiting
    table = task.vars.net.d0.emb.table
    before = session.run(table)
    session.run([task.train_op])
    assert np.all(session.run(table) != before)


class Copying(tiny_pipeline.Linear):
  """Copies its weights every third step, from the third on."""

  WEIGHTS = {'target': [tiny_pipeline.WIDTH, tiny_pipeline.WIDTH]}
  FROZEN = ('target',)

  def PostTrainingStepUpdate(self):
    return tf.cond(
      tf.equal(py_utils.GetGlobalStep() % 3, 2),
      lambda: tf.group(self.vars.target.assign(self.vars.w.read_value())),
      tf.no_op,
    )


def _training(inner, steps_to_apply):
  """A task whose loss is NaN once, and a session that skips the step."""
  nan_once = stand_in_pipeline.Log.Params().Set(name='nan', step=2)
  subs = [Copying.Params().Set(name='l'), nan_once]
  accumulator = optimizer.Accumulator.Params().Set(
    accum_steps=steps_to_apply, optimizer_tpl=inner
  )
  return _guarded(
    lambda: tiny_pipeline.build_training(
      tiny_pipeline.with_loss(subs), optimizer=accumulator
    ),
    'skip',
  )


def _run(task, session, steps):
  for _ in range(steps):
    session.run([task.train_op])


def test_an_accumulator_is_applied_at_a_skipped_step_without_its_batch():
  with _training(optimizer.SGD.Params(), 3) as (task, session):
    [(variable, gradient)] = task.learners[0].GetVarGrads().Flatten()
    weights, gradients = [], []
    for _ in range(2):
      weight, d_weight = session.run([variable, gradient])
      weights.append(weight)
      gradients.append(d_weight)
      _run(task, session, 3)
    weights.append(session.run(variable))
    [sums] = session.run(
      [v for v in tf.global_variables() if 'grad_accumulator' in v.name]
    )
  np.testing.assert_allclose(
    weights[1], weights[0] - 0.1 * gradients[0] * 2 / 3, rtol=1e-5
  )
  np.testing.assert_allclose(weights[2], weights[1] - 0.1 * gradients[1], 1e-5)
  np.testing.assert_array_equal(sums, 0)


def _skip(steps_to_apply):
  """Names of the variables that a skipped step changes; all values after it."""
  with _training(optimizer.Adam.Params(), steps_to_apply) as (task, session):
    variables = {v.op.name: v for v in tf.global_variables()}
    _run(task, session, 2)
    before = session.run(variables)
    _run(task, session, 1)
    after = session.run(variables)
  return {n for n in before if np.any(before[n] != after[n])}, after


def test_slots_and_what_a_layer_does_at_given_steps_are_due_too():
  changed, after = _skip(3)
  assert 'task/net/l/w/var/Adam' in changed
  np.testing.assert_array_equal(
    after['task/net/l/target/var'], after['task/net/l/w/var']
  )
  assert after['global_step'] == 3


def test_nothing_but_the_step_moves_at_a_skipped_step_at_which_nothing_is_due():
  changed, _ = _skip(4)
  assert {n for n in changed if '/target/' not in n} == {'global_step'}
