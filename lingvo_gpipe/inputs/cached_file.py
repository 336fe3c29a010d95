# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are made once and then read."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator


def default_directory() -> str:
  """Where the user's cached files are: $XDG_CACHE_HOME, or ~/.cache."""
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(root, 'lingvo_gpipe')


def read_or_make(path: str, make: Callable[[], bytes]) -> bytes:
  """Returns a file's contents; makes the file if there is none.

  Of several processes that want the same file, one makes it and the others
  wait. The file appears with its whole contents or not at all.

  Args:
    path: The file. Its directory is made if need be.
    make: Returns the contents.

  Raises:
    ValueError: if the file or its directory cannot be used.
  """
  try:
    with contextlib.suppress(FileNotFoundError):
      return _read(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with _lock(path + '.lock'):
      with contextlib.suppress(FileNotFoundError):
        return _read(path)
      data = make()
      _write(path, data)
      return data
  except OSError as e:
    raise ValueError(
      f'{path} cannot be read or written ({e.strerror}). Name another '
      'directory for such files by the Param cache_dir or the environment '
      'variable XDG_CACHE_HOME.'
    ) from e


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
  """Keeps other processes out; the system frees it if this one dies."""
  with open(path, 'a') as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    yield


def _read(path: str) -> bytes:
  with open(path, 'rb') as f:
    return f.read()


def _write(path: str, data: bytes) -> None:
  descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
  try:
    with os.fdopen(descriptor, 'wb') as f:
      f.write(data)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise
