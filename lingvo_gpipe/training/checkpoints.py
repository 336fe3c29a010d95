# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's checkpointer, made to survive kills, damaged files and full disks.

A checkpoint counts once the file `checkpoint` names it. That file is replaced
in one piece, after all else has been written:

    ckpt-00000020_temp/part-...    the tensors of each device
    ckpt-00000020.data-...         those files, moved
    ckpt-00000020.index            what is where, with checksums
    ckpt-00000020.meta             the graph
    checkpoint                     "ckpt-00000020 is the newest"  <-- it counts
    ckpt-00000010.*                no longer kept, so removed
"""

import contextlib
import glob
import os
import re
import time

import lingvo.compat as tf
from lingvo.core import checkpointer

from lingvo_gpipe.training import logs, user_error

# After a checkpoint that could not be written: until the next try, at most.
_RETRY_SECONDS = 60.0
_DAMAGE_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)
# What writing raises on a disk that is full, gone or write-protected.
WRITE_ERRORS = (
  OSError,
  *_DAMAGE_ERRORS,
  tf.errors.FailedPreconditionError,
  tf.errors.PermissionDeniedError,
  tf.errors.ResourceExhaustedError,
)


class CheckpointError(RuntimeError):
  """A checkpoint that is needed could not be written."""


class DamagedCheckpointError(user_error.UserError):
  """A checkpoint can't be read, or parts of it are missing."""

  def __init__(self, path, error):
    self.problem = f'{path} is damaged ({user_error.reason(error)})'
    super().__init__(f'{self.problem}; choose another checkpoint.')


def step_of(path):
  return int(path.rpartition('-')[2])


def newest_first(directory):
  """Paths of the checkpoints that count, without suffix, the newest first."""
  if not tf.io.gfile.exists(os.path.join(directory, 'checkpoint')):
    return []
  try:
    state = tf.train.get_checkpoint_state(directory)
  except ValueError:  # It names none, or is no text.
    state = None
  if state is None:  # Then all count that are there.
    files = tf.io.gfile.listdir(directory)
    paths = [f.removesuffix('.index') for f in files if f.endswith('.index')]
  else:
    paths = [state.model_checkpoint_path, *state.all_model_checkpoint_paths]
  # The directory may have been moved: it names them by their paths.
  names = {os.path.basename(path) for path in paths}
  numbered = [name for name in names if re.search(r'-\d+$', name)]
  numbered.sort(key=step_of, reverse=True)
  return [os.path.join(directory, name) for name in numbered]


def _remove(directory, pattern):
  with contextlib.suppress(tf.errors.OpError):
    for path in tf.io.gfile.glob(os.path.join(glob.escape(directory), pattern)):
      tf.io.gfile.rmtree(path)


class TrainingCheckpointer(checkpointer.Checkpointer):
  """Saves after the last step too; takes an older checkpoint if it must.

  UserError if the newest one is of another model: Lingvo restores any shape.
  """

  def __init__(self, train_dir, models, *args, **kwargs):
    # Before the saver, which may add variables that it does not save.
    self._variables = tf.global_variables()
    self._no_save_before = 0.0
    for path in newest_first(train_dir)[:1]:
      self._CheckThatItFits(path)
    super().__init__(train_dir, models, *args, **kwargs)

  @property
  def async_checkpointing(self):
    """No: it takes a copy of every variable, and the trainer waits anyway."""
    return False

  def ShouldSave(self, gsteps):
    if gsteps >= self._train_params.max_steps:
      return self._prev_ckpt_step != gsteps
    return time.time() >= self._no_save_before and super().ShouldSave(gsteps)

  def Save(self, sess=None, gsteps=None, sync=True):
    """Saves; a warning if that fails, a CheckpointError at the last step."""
    try:
      super().Save(sess, gsteps, sync)
    except WRITE_ERRORS as error:
      self._SaveFailed(int(gsteps), error)

  def _SaveFailed(self, step, error):
    kept = newest_first(self._train_dir)
    path = os.path.join(self._train_dir, f'ckpt-{step:08d}')
    if path not in kept:
      _remove(self._train_dir, f'ckpt-{step:08d}[._]*')
    newest = f'the newest is {kept[0]}' if kept else 'there is none yet'
    problem = (
      f'the checkpoint of step {step} could not be written to '
      f'{self._train_dir} ({user_error.reason(error)}); {newest}.'
    )
    if step >= self._train_params.max_steps:
      raise CheckpointError(
        f'{problem} Make room and start the command again: it resumes from '
        'there.'
      ) from error
    seconds = min(_RETRY_SECONDS, self._save_interval_seconds)
    self._no_save_before = time.time() + seconds
    logs.warn(
      f'{problem} Training continues; the next try is in {seconds:.0f} s.'
    )

  def Restore(self, sess=None, force_reinitialize=False):
    # What a kill left of a checkpoint that was being written.
    _remove(self._train_dir, 'ckpt-*_temp')
    _remove(self._train_dir, 'checkpoint.*')
    return super().Restore(sess, force_reinitialize)

  def _RestoreFromLatestCheckpoint(self, sess=None):
    paths = newest_first(self._train_dir)
    for number, path in enumerate(paths):
      try:
        self.RestoreFromPath(sess, path)
      except DamagedCheckpointError as error:
        if path == paths[-1]:
          raise user_error.UserError(
            f'{error.problem}, and there is no older one. Choose another '
            f'--logdir, or remove the checkpoints in {self._train_dir} to '
            'start from the beginning.'
          ) from error
        logs.warn(f'{error.problem}; trying the one before it.')
        continue
      if number:
        logs.warn(f'Resuming from {path}.')
        self._KeepOnly(paths[number:])
      self._prev_ckpt_step = step_of(path)
      return path
    return None

  def _KeepOnly(self, paths):
    """The other ones do not count from now on, until they are replaced."""
    oldest_first = paths[::-1]
    times = [tf.io.gfile.stat(f'{p}.index').mtime_nsec / 1e9 for p in paths]
    tf.tf1.train.update_checkpoint_state(
      self._train_dir,
      paths[0],
      oldest_first,
      all_model_checkpoint_timestamps=times[::-1],
      last_preserved_timestamp=times[0],
    )

  def RestoreFromPath(self, sess=None, checkpoint_path=None):
    """Restores; UserError for another model, DamagedCheckpointError."""
    self._CheckThatItFits(checkpoint_path)
    try:
      return super().RestoreFromPath(sess, checkpoint_path)
    except _DAMAGE_ERRORS as error:
      raise DamagedCheckpointError(checkpoint_path, error) from error

  def _CheckThatItFits(self, path):
    try:
      shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    # TensorFlow raises its bare OpError for some damages.
    except (tf.errors.OpError, ValueError):
      return  # Restoring it will tell.
    for variable in self._variables:
      name, shape = variable.op.name, variable.shape.as_list()
      if shapes.get(name) != shape:
        has = f'shape {shapes[name]}' if name in shapes else 'no value'
        raise user_error.UserError(
          f'{path} is a checkpoint of another model ({name} has {has}, the '
          f'model has {shape}); choose another --logdir.'
        )
