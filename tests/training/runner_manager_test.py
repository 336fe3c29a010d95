# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import shutil
import sys
import threading

import lingvo.compat as tf
import local_training
import pytest

from lingvo_gpipe.training import listeners, logs, runner_manager

FLAGS = tf.flags.FLAGS


def _manager():
  trial = listeners.ObservingTrial()
  return local_training.manager('stand_in_pipeline.TwoDevices', trial), trial


def _train(max_steps, model='TwoDevices'):
  FLAGS.max_steps = max_steps
  return local_training.train(f'stand_in_pipeline.{model}')


@pytest.fixture(scope='module')
def _a_training(tmp_path_factory):
  """A log directory with checkpoints of steps 1 and 20, and what made it."""
  logdir = tmp_path_factory.mktemp('training')
  with local_training.settings(logdir):
    runner, losses = _train(20)
  return logdir, runner, losses


@pytest.fixture
def trained(local_run, _a_training):
  shutil.copytree(_a_training[0], local_run, dirs_exist_ok=True)
  FLAGS.max_steps = 20
  return local_run


def test_trains_and_saves_after_the_last_step(trained, _a_training):
  _, _, losses = _a_training
  assert list(losses) == list(range(1, 21))
  assert losses[20] < losses[1]
  assert tf.train.latest_checkpoint(trained / 'train').endswith('00000020')
  assert (trained / 'train' / 'model_analysis.txt').exists()
  # It goes on from there until nothing is left to do.
  _, losses = _train(22)
  assert list(losses) == [21, 22]
  assert tf.train.latest_checkpoint(trained / 'train').endswith('00000022')
  assert _train(22)[1] == {}


def test_an_error_in_a_step_ends_the_run_at_once(local_run):
  with pytest.raises(tf.errors.InvalidArgumentError, match='on purpose'):
    _train(10, 'TwoDevicesFailing')


@pytest.mark.parametrize('num_devices', [1, 2])
def test_evaluates_all_held_out_examples(trained, num_devices):
  FLAGS.worker_split_size = num_devices
  manager, trial = _manager()
  (evaler,) = manager.CreateRunners(['evaler_Test'], FLAGS.logdir)
  evaler.EvalLatestCheckpoint()
  (evaluation,) = trial.evaluations
  assert (evaluation.step, evaluation.num_examples) == (20, 364)
  assert evaluation.checkpoint.endswith('ckpt-00000020')
  assert 0.2 < evaluation.metrics['accuracy'] < 1


def test_one_checkpoint_is_evaluated_once(trained):
  FLAGS.job = 'evaler_once_Test@1'
  manager, trial = _manager()
  manager.RunEvalerOnce()
  (evaluation,) = trial.evaluations
  assert (evaluation.step, evaluation.num_examples) == (1, 364)


def test_params_are_written_and_it_is_said_where(local_run, capsys):
  manager, _ = _manager()
  FLAGS.inspect_params_dataset_name = ['Test']
  manager.InspectParams()
  file = local_run / 'test-params.txt'
  assert capsys.readouterr().out == f'Params for Test: {file}\n'
  assert 'task.hidden : 32' in file.read_text()
  assert not (local_run / 'train-params.txt').exists()


def test_the_evaler_takes_the_one_before_a_damaged_checkpoint(trained, capsys):
  for data in (trained / 'train').glob('ckpt-00000020.data-*'):
    data.write_bytes(b'')
  manager, trial = _manager()
  runners_of_job = manager.CreateRunners(['evaler_Test'], FLAGS.logdir)
  with logs.warnings_shown_on(sys.stdout):
    manager.StartRunners(runners_of_job)
  # It ends although nobody trains on to the last step.
  (evaluation,) = trial.evaluations
  assert (evaluation.step, evaluation.num_examples) == (1, 364)
  shown = capsys.readouterr().out
  assert 'Warning: ' in shown
  assert 'ckpt-00000020 is damaged (' in shown
  assert shown.count('trying an older one') == 1


def test_flags_reach_the_params(local_run):
  manager, _ = _manager()
  FLAGS.max_steps = 7
  FLAGS.micro_batches = 16
  FLAGS.schedule = '1f1b'
  FLAGS.recompute = 'fit'
  FLAGS.device_memory = '8GiB'
  cfg = manager.GetParamsForDataset('trainer_client', 'Train')
  assert cfg.train.max_steps == cfg.task.train.max_steps == 7
  assert cfg.task.num_micro_batches == 16
  assert cfg.task.schedule == '1f1b'
  assert cfg.task.recompute == 'fit'
  assert cfg.task.device_memory == '8GiB'
  assert cfg.cluster.worker.cpus_per_replica == 2
  assert FLAGS.tf_master == ''  # One process opens no port.


class _Runner:
  """Runs a function; its enqueue ops are functions as well."""

  def __init__(self, start, enqueue_ops=()):
    self.Start = start
    self.enqueue_ops = enqueue_ops

  def StartEnqueueOp(self, op):
    op()


def test_an_error_of_one_of_several_runners_ends_all():
  never = threading.Event()
  manager = runner_manager.RunnerManager('any.Model')
  with pytest.raises(ZeroDivisionError):
    manager.StartRunners([_Runner(never.wait), _Runner(lambda: 1 / 0)])
  never.set()


def test_several_runners_and_their_enqueue_ops_run_side_by_side():
  # All three must be there at once for any of them to go on.
  barrier = threading.Barrier(3, timeout=30)
  manager = runner_manager.RunnerManager('any.Model')
  manager.StartRunners(
    [_Runner(barrier.wait, [barrier.wait]), _Runner(barrier.wait)]
  )
  assert not barrier.broken
