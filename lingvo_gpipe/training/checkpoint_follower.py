# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint to evaluate next, while a training writes them.

    in the directory    10  20  30, damaged
    the newest          30 can't be read: a warning, then 20
    every one           10, 20; of 30 a warning

A checkpoint that was damaged is looked at again once it has been replaced: a
training that goes on from an earlier one writes its step anew.
"""

import os

import lingvo.compat as tf

from lingvo_gpipe.training import checkpoint_files, logs, user_error


def _stamp(path):
  """Changes when a checkpoint is replaced."""
  try:
    return tf.io.gfile.stat(path + '.index').mtime_nsec
  except tf.errors.OpError:
    return None


class CheckpointFollower:
  """Finds the checkpoints that a job is to run on.

  Args:
    directory: Where the training writes them.
    processed: Paths of those that the job has run on before; the directory may
      have been moved since.
    every: Whether to take all, the oldest first, or only the newest.
  """

  def __init__(self, directory, processed=(), every=False):
    self._directory = directory
    self._processed = {os.path.basename(path) for path in processed}
    self._every = every
    self._damaged = {}

  @property
  def newest_step(self):
    """The step of the newest checkpoint, damaged or not; 0 if there is none."""
    paths = checkpoint_files.newest_first(self._directory)
    return checkpoint_files.step_of(paths[0]) if paths else 0

  def next(self):
    """The path of the next checkpoint to run on, None if there is none now.

    Raises:
      UserError: if all that there are turned out to be damaged.
    """
    paths = checkpoint_files.newest_first(self._directory)
    whole = [path for path in paths if not self._is_damaged(path)]
    if paths and not whole:
      raise user_error.UserError(
        f'Every checkpoint in {self._directory} is damaged; copy a whole one '
        'there, or train again in another --logdir.'
      )
    wanted = whole[::-1] if self._every else whole[:1]
    return next(
      (p for p in wanted if os.path.basename(p) not in self._processed), None
    )

  def done(self, path):
    """The job has run on a checkpoint."""
    self._processed.add(os.path.basename(path))

  def leave_out(self, path, problem):
    """A checkpoint could not be read.

    Args:
      path: Its path.
      problem: What is wrong with it, a sentence without its full stop.
    """
    self._damaged[path] = _stamp(path)
    # The training may just have removed it.
    if path in checkpoint_files.newest_first(self._directory):
      otherwise = 'it is left out' if self._every else 'trying an older one'
      logs.warn(f'{problem}; {otherwise}.')

  def _is_damaged(self, path):
    return path in self._damaged and self._damaged[path] == _stamp(path)
