# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io

import lingvo.compat as tf
import numpy as np
import pytest
from absl.testing import flagsaver
from lingvo.core import cluster_factory, py_utils

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
