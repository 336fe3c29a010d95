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
import tempfile

from lingvo_gpipe.training import checkpoint_files, user_error

_MODEL_FILE = 'model.txt'
_LOCK_FILE = '.lock'


def _is_remote(logdir):
  """Whether it is a URL, such as gs://..., which TensorFlow resolves."""
  return '://' in logdir


def _train_dir(logdir):
  return os.path.join(logdir, 'train')


def prepare(logdir):
  """Makes the log directory; UserError if it can't be made or written.

  Returns:
    The directory's absolute path; a URL is left as it is, unchecked.
  """
  try:
    if not logdir:
      return tempfile.mkdtemp(prefix='lingvo_gpipe_')
    if _is_remote(logdir):
      return logdir
    logdir = os.path.abspath(os.path.expanduser(logdir))
    os.makedirs(logdir, exist_ok=True)
    with tempfile.TemporaryFile(dir=logdir):
      return logdir
  except OSError as error:
    raise _not_writable(logdir, error.strerror) from error


def check_model(logdir, model):
  """Raises UserError if the directory has checkpoints of another model.

  Only names are compared, before anything is built; variables are compared when
  a checkpoint is restored. A directory that Lingvo's own trainer made names no
  model and passes.
  """
  file = os.path.join(_train_dir(logdir), _MODEL_FILE)
  try:
    with open(file, encoding='utf-8') as stream:
      other = stream.read().strip()
  except FileNotFoundError:
    return
  if other != model and checkpoint_files.newest_first(_train_dir(logdir)):
    raise user_error.UserError(
      f'--logdir={logdir} has checkpoints of {other}, not of {model}. Choose '
      f'another --logdir. To continue from them anyway, remove {file}.'
    )


@contextlib.contextmanager
def training(logdir, model):
  """Inside, only this process trains in the log directory; else a UserError."""
  if _is_remote(logdir):
    yield
    return
  check_model(logdir, model)
  directory = _train_dir(logdir)
  try:
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, _LOCK_FILE)
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), 'r+')
  except OSError as error:
    raise _not_writable(logdir, f'{directory}: {error.strerror}') from error
  with lock:
    _lock(lock, logdir)
    _write(os.path.join(directory, _MODEL_FILE), model)
    yield


def _not_writable(logdir, reason):
  return user_error.UserError(
    f'--logdir={logdir}: {reason}; name a directory that can be written.'
  )


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


def _write(file, text):
  """Replaces `file` in one piece."""
  temporary = f'{file}.{os.getpid()}'
  with open(temporary, 'w', encoding='utf-8') as stream:
    stream.write(text + '\n')
  os.replace(temporary, file)
