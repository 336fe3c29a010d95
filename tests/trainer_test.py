# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer's mistakes of the user: one line, exit status 2, nothing lost."""

import lingvo.compat as tf
import local_training
import pytest

from lingvo_gpipe import trainer
from lingvo_gpipe.training import logdir

MODEL = '--model=stand_in_pipeline.Small'


@pytest.fixture
def refusal(capfd):
  def run(*args):
    out, err = local_training.refused(trainer.main, ['trainer', *args], capfd)
    assert out == ''
    return err

  return run


@pytest.fixture
def local(tmp_path):
  return [MODEL, f'--logdir={tmp_path}', '--run_locally=cpu']


def _files(directory):
  return {p: p.read_bytes() for p in directory.rglob('*') if p.is_file()}


def test_a_model_that_there_is_not_with_the_nearest_names(refusal, tmp_path):
  assert refusal(
    '--model=image.digits.AmobaNetD', f'--logdir={tmp_path}/new'
  ).startswith(
    'trainer: --model=image.digits.AmobaNetD: no such model. Nearest: '
    'image.digits.AmoebaNetD'
  )
  assert not (tmp_path / 'new').exists()


# A model that lacks what is asked for.
_PLAIN = '--model=stand_in_pipeline.TwoDevices'


@pytest.mark.parametrize(
  ('args', 'said'),
  [
    (['--mode=snyc'], "no mode 'snyc'. Nearest: sync"),
    (['--job=trianer_client'], 'Nearest: trainer_client'),
    (['--job=evaler_once_Test'], 'Nearest: evaler_once_Test@100'),
    (['--job=evaler_Tset'], "no dataset 'Tset'. Nearest: Test."),
    (
      ['--model_params_override=task.train.learning_rat:0.1'],
      "no Param 'task.train.learning_rat'. Nearest: task.train.learning_rate",
    ),
    (
      ['--model_params_override=task.train.max_steps:2;task.trian.name:1'],
      "task.trian.name:1: there is no Param 'task.trian.name'. Nearest: task.",
    ),
    (
      ['--model_params_override=task.train.learning_rate:high'],
      "could not convert string to float: 'high'",
    ),
    (['--model_params_override=task.train.pruning_hparams_dict:3'], 'is None'),
    (['--model_params_override=task.name'], 'not in <key>:<value> format'),
    (['--model_params_file_override=/no/file'], 'there is no such file'),
    (
      ['--mode=inspect_params', '--inspect_params_dataset_name=Tset'],
      "no dataset 'Tset'. Nearest: Test.",
    ),
    (
      [_PLAIN, '--job=decoder_Test'],
      'task TwoDeviceTask decodes nothing, its CreateDecoderMetrics() has no '
      'metrics. To evaluate it: --job=evaler_...',
    ),
    (
      [_PLAIN, '--mode=write_inference_graph'],
      'nothing is written, the model has no inference graph',
    ),
    (['--logdir=/dev/null/x'], 'x: Not a directory; name a directory that can'),
    (['--worker_split_size=0'], '=0: a pipeline needs at least one device'),
    (['--use_eager'], 'leave it out; this trainer runs graphs'),
    pytest.param(
      ['--worker_split_size=2', '--run_locally=gpu'],
      '2 GPU(s) are requested, but TensorFlow finds 0',
      marks=pytest.mark.skipif(
        bool(tf.config.list_physical_devices('GPU')), reason='there are GPUs'
      ),
    ),
  ],
)
def test_what_is_missing_or_does_not_fit(refusal, local, tmp_path, args, said):
  err = refusal(*local, *args)
  assert said in err
  assert args[-1].partition('=')[0] in err
  assert not list((tmp_path / 'train').glob('ckpt*'))


def test_a_directory_of_another_model(refusal, local, tmp_path):
  with logdir.training(str(tmp_path), 'a.Model'):
    pass
  (tmp_path / 'train' / 'checkpoint').write_text(
    'model_checkpoint_path: "ckpt-00000001"'
  )
  before = _files(tmp_path)
  err = refusal(*local)
  assert f'--logdir={tmp_path} has checkpoints of a.Model, not of ' in err
  assert _files(tmp_path) == before


CELLS = '--model_params_override=task.pipeline.num_partitions:'


def test_more_cells_than_devices_or_devices_than_there_are(refusal, tmp_path):
  start = [MODEL, f'--logdir={tmp_path}', CELLS + '4']
  local = [*start, '--run_locally=cpu']
  remedy = 'Give it 4 devices, other cells, or a schedule'
  for flag in ('worker_split_size', 'worker_cpus'):
    err = refusal(*local, f'--{flag}=2')
    assert f'--{flag}=2: the pipeline has 4 cells' in err
    assert remedy in err
  err = refusal(
    *start, '--job=trainer_client', '--cluster_spec=worker=a:1,b:1,c:1'
  )
  assert '3 worker(s) with --worker_cpus=1: the pipeline has 4 cells' in err
  assert remedy in err
  workers = ['--job=trainer_client', '--cluster_spec=worker=127.0.0.1:1']
  err = refusal(*start[:2], *workers, '--worker_split_size=3')
  assert '--worker_split_size=3: there are 1 worker(s) with 1 device(s)' in err
  assert not list((tmp_path / 'train').glob('ckpt*'))


@pytest.mark.parametrize('splits', ['3', "['1']", '[1.5]'])
def test_splits_that_are_no_list_of_whole_numbers(refusal, local, splits):
  flag = f'--model_params_override=task.pipeline.splits:{splits}'
  err = refusal(*local, flag)
  assert f'splits is {splits}; it must be a list of whole numbers' in err
