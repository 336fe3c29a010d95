# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import time

import lingvo.compat as tf
import numpy as np
import pytest
from lingvo.core import base_model, py_utils

from lingvo_gpipe.training import checkpoints, user_error

MAX_STEPS = 9


class _Model:
  def __init__(self, directory, size=1000, save_interval_steps=1):
    self.graph = tf.Graph()
    train = base_model.BaseTask.Params().train
    train.max_steps = MAX_STEPS
    train.save_interval_steps = save_interval_steps
    train.save_max_to_keep = 3
    train.save_keep_checkpoint_every_n_hours = None
    with self.graph.as_default():
      self.step = py_utils.GetOrCreateGlobalStepVar()
      self.weights = tf.get_variable(
        'weights', initializer=tf.zeros([size]), use_resource=True
      )
      self.new_weights = tf.placeholder(tf.float32, [size])
      self.assign = self.weights.assign(self.new_weights)
      self.advance = self.step.assign_add(1)
      self.checkpointer = checkpoints.TrainingCheckpointer(
        str(directory), [], train_params=train
      )
      self.session = tf.Session()
      self.checkpointer.Restore(self.session, force_reinitialize=True)

  def run_step(self):
    with self.graph.as_default():
      value = self.value() + 1
      self.session.run([self.assign, self.advance], {self.new_weights: value})
      step = self.session.run(self.step)
      self.checkpointer.MaybeSave(self.session, step)

  def value(self):
    return self.session.run(self.weights)

  def restored(self):
    """The step, which all weights must equal."""
    step, value = self.session.run([self.step, self.weights])
    assert np.all(value == step)
    return step


@pytest.fixture
def trained(tmp_path, graph_mode):
  model = _Model(tmp_path)
  for _ in range(4):
    model.run_step()
  assert _steps(tmp_path) == [4, 3, 2]
  return tmp_path


def _steps(directory):
  return [
    checkpoints.step_of(path)
    for path in checkpoints.newest_first(str(directory))
  ]


def _flip_a_byte(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 255
  path.write_bytes(bytes(data))


DATA, INDEX = 'data-00000-of-00001', 'index'


def _file(directory, step, ending=DATA):
  return directory / f'ckpt-{step:08d}.{ending}'


def _contents(directory):
  return {p: p.read_bytes() for p in directory.iterdir()}


@pytest.mark.parametrize(
  ('ending', 'damage'),
  [
    (DATA, lambda file: os.truncate(file, 2000)),
    (DATA, lambda file: os.truncate(file, 0)),
    (DATA, _flip_a_byte),
    (DATA, os.unlink),
    (INDEX, lambda file: os.truncate(file, 50)),
    (INDEX, lambda file: os.truncate(file, 0)),
    (INDEX, os.unlink),
  ],
)
def test_of_a_damaged_checkpoint_the_previous_is_used(
  trained, ending, damage, warnings
):
  damage(_file(trained, 4, ending))
  model = _Model(trained)
  assert model.restored() == 3
  warning = warnings.getvalue()
  assert warning.startswith('Warning: ')
  assert f'{trained}/ckpt-00000004 is damaged (' in warning
  assert f'Resuming from {trained}/ckpt-00000003.' in warning
  # An evaluation sees the one that is whole, and step 4 can be saved again.
  assert tf.train.latest_checkpoint(trained) == f'{trained}/ckpt-00000003'
  model.run_step()
  assert _Model(trained).restored() == 4
  assert _steps(trained) == [4, 3, 2]


def test_with_no_whole_checkpoint_training_does_not_start_anew(trained):
  for step in (2, 3, 4):
    os.truncate(_file(trained, step), 10)
  before = _contents(trained)
  with pytest.raises(
    user_error.UserError,
    match=r'ckpt-00000002 is damaged \(.*no older one.*--logdir',
  ):
    _Model(trained)
  assert _contents(trained) == before


def test_a_damaged_list_of_checkpoints_is_made_up_for(trained):
  (trained / 'checkpoint').write_text('model_checkpoint_pa')
  assert _Model(trained).restored() == 4


def test_what_a_kill_left_of_a_checkpoint_is_removed_and_not_used(trained):
  unfinished = trained / 'ckpt-00000005_temp'
  unfinished.mkdir()
  (unfinished / 'part-00000-of-00001.data-00000-of-00001').write_text('half')
  (trained / 'ckpt-00000005.index').write_text('half')
  assert _Model(trained).restored() == 4
  assert not unfinished.exists()


def _fail_writing(monkeypatch, error):
  def save(self, sess, gsteps):
    pathlib.Path(self._logdir, f'ckpt-{int(gsteps):08d}.index').write_text('x')
    raise error

  monkeypatch.setattr(checkpoints.checkpointer.SaverWrapper, 'Save', save)


ERRORS = [
  tf.errors.ResourceExhaustedError(
    None, None, 'Graph execution error:\n\nNode: a\n/logs; No space left'
  ),
  OSError(28, 'No space left'),
]


@pytest.mark.parametrize('error', ERRORS)
def test_training_goes_on_without_a_checkpoint_that_cannot_be_written(
  trained, monkeypatch, error, warnings
):
  model = _Model(trained)
  now = time.time()
  with monkeypatch.context() as patch:
    _fail_writing(patch, error)
    model.run_step()
    model.run_step()
  # Once: the second step comes before the next try.
  assert warnings.getvalue().count('\n') == 1
  assert 'of step 5 could not be written' in warnings.getvalue()
  assert 'No space left' in warnings.getvalue()
  assert f'the newest is {trained}/ckpt-00000004' in warnings.getvalue()
  assert _steps(trained) == [4, 3, 2]
  assert not list(trained.glob('ckpt-00000005*'))
  monkeypatch.setattr(time, 'time', lambda: now + 3600)
  model.run_step()
  assert _steps(trained) == [7, 4, 3]
  assert _Model(trained).restored() == 7


def test_the_last_checkpoint_must_be_written(trained, monkeypatch):
  model = _Model(trained)
  while model.restored() < MAX_STEPS - 1:
    model.run_step()
  _fail_writing(monkeypatch, ERRORS[0])
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r'of step 9 .*\(/logs; No space left\).*ckpt-00000008. Make room',
  ):
    model.run_step()


def test_another_model_is_named_before_anything_is_written(trained):
  before = _contents(trained)
  with pytest.raises(
    user_error.UserError,
    match=r'ckpt-00000004 .*weights has shape \[1000\], the model has \[7\]',
  ):
    _Model(trained, size=7)
  assert _contents(trained) == before
