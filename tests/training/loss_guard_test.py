# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io
import types

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from absl.testing import flagsaver
from lingvo.core import base_layer, cluster_factory, py_utils

from lingvo_gpipe import cluster
from lingvo_gpipe.training import (
  loss_guard,
  model_lookup,
  notices,
  run_observer,
  runner_manager,
)

FLAGS = tf.flags.FLAGS
# stand_in_pipeline.SmallNan computes NaN in the step after so many.
NAN_AT_STEP = 3
_PLACE = (
  f'Step {NAN_AT_STEP + 1}: the loss is not finite; NaN first in cell_1, layer '
  'log, op log/Log (Log), of micro-batch 0.'
)


@pytest.fixture
def train(tmp_path):
  """Trains the model whose loss is NaN once; returns {step: loss}."""
  before = cluster_factory.Cluster
  eager = py_utils.IsEagerMode()
  saved = flagsaver.save_flag_values()
  FLAGS.run_locally = 'cpu'
  FLAGS.worker_split_size = 2
  FLAGS.logdir = str(tmp_path)
  FLAGS.max_steps = NAN_AT_STEP + 2
  cluster.install()
  py_utils.SetEagerMode(False, test_mode=True)

  def run(policy, **changes):
    FLAGS.on_nan_loss = policy
    for name, value in changes.items():
      FLAGS[name].value = value
    trial = run_observer.ObservingTrial([steps := _Steps()])
    manager = runner_manager.RunnerManager(
      model_lookup.find_model('stand_in_pipeline.SmallNan'), trial
    )
    manager.MaybeConfigRunLocally()
    manager.StartRunners(
      manager.CreateRunners(['trainer_client'], FLAGS.logdir)
    )
    return steps.losses

  yield run
  flagsaver.restore_flag_values(saved)
  cluster_factory.SetCluster(before)
  py_utils.SetEagerMode(eager, test_mode=True)


class _Steps(run_observer.StepListener):
  def __init__(self):
    self.losses = {}

  def after_step(self, step, metrics):
    self.losses[step] = float(metrics['loss'][0])


def _checkpoint(directory, step):
  reader = tf.train.load_checkpoint(f'{directory}/train/ckpt-{step:08d}')
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name != 'global_step'
  }


def test_stop_names_cell_and_layer_and_leaves_the_checkpoint(train, tmp_path):
  with pytest.raises(loss_guard.NonFiniteLossError) as raised:
    train('stop')
  assert str(raised.value).startswith(_PLACE)
  assert '--on_nan_loss=skip' in str(raised.value)
  assert tf.train.latest_checkpoint(tmp_path / 'train').endswith('00000001')


def test_a_skipped_step_changes_no_variable(train, tmp_path):
  override = 'train.save_interval_steps:1;task.train.save_interval_steps:1'
  shown = io.StringIO()
  with notices.shown_on(shown):
    losses = train('skip', model_params_override=override)
  assert shown.getvalue() == f'Warning: {_PLACE} The step is skipped.\n'
  assert [step for step, x in losses.items() if np.isnan(x)] == [
    NAN_AT_STEP + 1
  ]
  before = _checkpoint(tmp_path, NAN_AT_STEP)
  skipped = _checkpoint(tmp_path, NAN_AT_STEP + 1)
  after = _checkpoint(tmp_path, NAN_AT_STEP + 2)
  assert set(before) == set(skipped) == set(after)
  for name in before:
    np.testing.assert_array_equal(before[name], skipped[name], name)
  assert any(np.any(skipped[name] != after[name]) for name in before)


class Table(base_layer.BaseLayer):
  """Looks up ids, [batch], in a table."""

  def __init__(self, params):
    super().__init__(params)
    shape = [5, tiny_pipeline.WIDTH]
    init = py_utils.WeightInit.Gaussian()
    self.CreateVariable('table', py_utils.WeightParams(shape, init))

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
    with guard.session(graph=graph, config=config) as session:
      session.run(initialise)
      table = task.vars.net.d0.emb.table
      before = session.run(table)
      session.run([task.train_op])
      assert np.all(session.run(table) != before)
