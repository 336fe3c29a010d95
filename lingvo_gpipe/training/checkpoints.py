# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's checkpointer, made to survive kills, damaged files and full disks.

It also saves where the training ends. See `checkpoint_files` for why a kill
leaves the last checkpoint whole.
"""

import time

import lingvo.compat as tf
from lingvo.core import checkpointer

from lingvo_gpipe.training import checkpoint_files, logs, user_error

# After a checkpoint that could not be written: until the next try, at most.
_RETRY_SECONDS = 60.0
# What writing raises on a disk that is full, gone or write-protected.
WRITE_ERRORS = (
  OSError,
  tf.errors.DataLossError,
  tf.errors.FailedPreconditionError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
  tf.errors.PermissionDeniedError,
  tf.errors.ResourceExhaustedError,
)


class CheckpointError(RuntimeError):
  """A checkpoint that is needed could not be written or read."""


class DamagedCheckpointError(user_error.UserError):
  """A checkpoint can't be read, or parts of it are missing."""

  def __init__(self, path, error):
    self.problem = f'{path} is damaged ({user_error.reason(error)})'
    super().__init__(f'{self.problem}; choose another checkpoint.')


class TrainingCheckpointer(checkpointer.Checkpointer):
  """Saves after the last step too; takes an older checkpoint if it must.

  Lingvo's trainer saves only when the interval has passed, so the steps since
  then would be lost when it ends. And Lingvo's saver restores a weight of any
  shape, which comes to light as an error in some layer.

  Raises:
    UserError: if the newest checkpoint there is of another model.
  """

  def __init__(self, train_dir, models, *args, **kwargs):
    # Before the saver, which may add variables that it does not save.
    self._variables = tf.global_variables()
    self._no_save_before = 0.0
    for path in checkpoint_files.newest_first(train_dir)[:1]:
      self._CheckThatItFits(path)
    super().__init__(train_dir, models, *args, **kwargs)

  @property
  def async_checkpointing(self):
    """No: it takes a copy of every variable, and the trainer waits anyway."""
    return False

  # -- Saving.

  def ShouldSave(self, gsteps):
    """Whether to save after `gsteps` steps, an int."""
    if gsteps >= self._train_params.max_steps:
      return self._prev_ckpt_step != gsteps
    if time.time() < self._no_save_before:
      return False
    return super().ShouldSave(gsteps)

  def Save(self, sess=None, gsteps=None, sync=True):
    """Saves; if that fails, training goes on with a warning.

    Raises:
      CheckpointError: if the last step's checkpoint can't be written.
    """
    try:
      super().Save(sess, gsteps, sync)
    except WRITE_ERRORS as error:
      checkpoint_files.remove_step(self._train_dir, int(gsteps))
      self._SaveFailed(int(gsteps), error)

  def _SaveFailed(self, step, error):
    kept = checkpoint_files.newest_first(self._train_dir)
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

  # -- Restoring.

  def Restore(self, sess=None, force_reinitialize=False):
    """Restores the newest checkpoint that is whole, or initializes."""
    checkpoint_files.remove_unfinished(self._train_dir)
    return super().Restore(sess, force_reinitialize)

  def _RestoreFromLatestCheckpoint(self, sess=None):
    paths = checkpoint_files.newest_first(self._train_dir)
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
        checkpoint_files.keep_only(self._train_dir, paths[number:][::-1])
      self._prev_ckpt_step = checkpoint_files.step_of(path)
      return path
    return None

  def RestoreFromPath(self, sess=None, checkpoint_path=None):
    """Restores from a checkpoint, a path without a suffix; returns the path.

    Raises:
      UserError: The checkpoint lacks a variable of the model, or has it in
        another shape.
      DamagedCheckpointError: It can't be read.
    """
    self._CheckThatItFits(checkpoint_path)
    try:
      return super().RestoreFromPath(sess, checkpoint_path)
    except checkpoint_files.DAMAGE_ERRORS as error:
      raise DamagedCheckpointError(checkpoint_path, error) from error

  def _CheckThatItFits(self, path):
    shapes = checkpoint_files.shapes(path)
    if shapes is None:
      return  # Damaged, which restoring it will tell.
    for variable in self._variables:
      name, shape = variable.op.name, variable.shape.as_list()
      if name not in shapes:
        problem = f'it has no variable {name}'
      elif shapes[name] != shape:
        problem = f'{name} has shape {shapes[name]}, the model has {shape}'
      else:
        continue
      raise user_error.UserError(
        f'{path} is a checkpoint of another model ({problem}); choose another '
        '--logdir.'
      )
