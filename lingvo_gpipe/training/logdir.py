# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The log directory: writable, of this model, and of one training at a time.

LOGDIR/train/model.txt   the name of the model that is trained in it
LOGDIR/train/.lock       locked while a process trains in it; the lock goes
                         with the process, however that ends
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import tempfile

from lingvo_gpipe.training import checkpoints, user_error


def prepare(logdir):
  """Makes the log directory, a new one for ''; returns its absolute path.

  UserError if it can't be made or written. A URL, gs://..., is not checked.
  """
  if not logdir:
    return tempfile.mkdtemp(prefix='lingvo_gpipe_')
  if '://' in logdir:
    return logdir
  logdir = os.path.abspath(os.path.expanduser(logdir))
  with _writable(logdir):
    os.makedirs(logdir, exist_ok=True)
    tempfile.TemporaryFile(dir=logdir).close()
  return logdir


def check_model(logdir, model):
  """Raises UserError if the directory has checkpoints of another model.

  One that Lingvo's own trainer made names no model, and passes.
  """
  train = os.path.join(logdir, 'train')
  file = pathlib.Path(train, 'model.txt')
  other = file.read_text(encoding='utf-8').strip() if file.exists() else ''
  if other not in ('', model) and checkpoints.newest_first(train):
    raise user_error.UserError(
      f'--logdir={logdir} has checkpoints of {other}, not of {model}. Choose '
      f'another --logdir. To continue from them anyway, remove {file}.'
    )


@contextlib.contextmanager
def training(logdir, model):
  """Inside, only this process trains in the log directory; else a UserError."""
  if '://' in logdir:
    yield
    return
  check_model(logdir, model)
  directory = os.path.join(logdir, 'train')
  with _writable(logdir):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, '.lock')
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), 'r+')
  with lock:
    _lock(lock, logdir)
    pathlib.Path(directory, 'model.txt').write_text(f'{model}\n')
    yield


@contextlib.contextmanager
def _writable(logdir):
  try:
    yield
  except OSError as error:
    raise user_error.UserError(
      f'--logdir={logdir}: {error.strerror}; name a directory that can be '
      'written.'
    ) from error


def _lock(lock, logdir):
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
      return  # A file system without locks; then there is nothing to check.
    lock.seek(0)
    raise user_error.UserError(
      f'--logdir={logdir}: process {lock.read().strip() or "unknown"} is '
      'training in it; wait until it ends, or choose another --logdir.'
    ) from error
  lock.truncate(0)
  lock.write(str(os.getpid()))
  lock.flush()
