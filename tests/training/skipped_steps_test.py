# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import types

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
from lingvo.core import base_layer, optimizer, py_utils

from lingvo_gpipe.training import loss_guard

_NAN_AT_STEP = 2


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


class NanOnce(base_layer.BaseLayer):
  """Adds the logarithm of 1, at one step that of -1."""

  def FProp(self, theta, x):
    now = tf.equal(py_utils.GetGlobalStep(), _NAN_AT_STEP)
    return x + tf.math.log(tf.where(now, -tf.ones([]), tf.ones([])))


@contextlib.contextmanager
def _training(inner, steps_to_apply=3):
  """Yields a task whose loss is NaN once, and a session that skips the step."""
  subs = [Copying.Params().Set(name='l'), NanOnce.Params().Set(name='nan')]
  accumulator = optimizer.Accumulator.Params().Set(
    accum_steps=steps_to_apply, optimizer_tpl=inner
  )
  with pt.cluster(2), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    step = py_utils.GetOrCreateGlobalStepVar()
    task = tiny_pipeline.build_training(
      tiny_pipeline.with_loss(subs), optimizer=accumulator
    )
    model = types.SimpleNamespace(tasks=[task], global_step=step)
    initialise = tf.global_variables_initializer()
    guard = loss_guard.LossGuard(model, 'skip')
    config = tf.compat.v1.ConfigProto(device_count={'CPU': 2})
    with guard.session(None, graph=graph, config=config) as session:
      session.run(initialise)
      yield task, session


def _train(task, session, steps):
  for _ in range(steps):
    session.run([task.train_op])


def test_an_accumulator_is_applied_at_a_skipped_step_without_its_batch():
  with _training(optimizer.SGD.Params()) as (task, session):
    [(variable, gradient)] = task.learners[0].GetVarGrads().Flatten()
    weights, gradients = [], []
    for _ in range(2):
      weight, d_weight = session.run([variable, gradient])
      weights.append(weight)
      gradients.append(d_weight)
      _train(task, session, 3)
    weights.append(session.run(variable))
    [sums] = session.run(
      [v for v in tf.global_variables() if 'grad_accumulator' in v.name]
    )
  np.testing.assert_allclose(
    weights[1], weights[0] - 0.1 * gradients[0] * 2 / 3, rtol=1e-5
  )
  np.testing.assert_allclose(weights[2], weights[1] - 0.1 * gradients[1], 1e-5)
  np.testing.assert_array_equal(sums, 0)


def test_slots_and_what_a_layer_does_at_given_steps_are_due_too():
  with _training(optimizer.Adam.Params()) as (task, session):
    _train(task, session, 2)
    before = session.run({v.op.name: v for v in tf.global_variables()})
    _train(task, session, 1)
    after = session.run({v.op.name: v for v in tf.global_variables()})
  changed = {n for n in before if np.any(before[n] != after[n])}
  assert 'task/net/l/w/var/Adam' in changed
  np.testing.assert_array_equal(
    after['task/net/l/target/var'], after['task/net/l/w/var']
  )
  assert after['global_step'] == 3


def test_nothing_but_the_step_moves_at_a_skipped_step_at_which_nothing_is_due():
  with _training(optimizer.Adam.Params(), 4) as (task, session):
    variables = {
      v.op.name: v for v in tf.global_variables() if '/target/' not in v.name
    }
    _train(task, session, 2)
    before = session.run(variables)
    _train(task, session, 1)
    after = session.run(variables)
  assert {n for n in before if np.any(before[n] != after[n])} == {'global_step'}
