# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are made once and then read."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Callable


def default_directory() -> str:
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(root, 'lingvo_gpipe')


def read_or_make(path: str, make: Callable[[], bytes]) -> bytes:
  """Returns a file's contents; makes the file if there is none.

  Of several processes that want it one makes it, whole or not at all, and the
  others wait. ValueError if it or its directory cannot be used.
  """
  try:
    with contextlib.suppress(FileNotFoundError):
      return pathlib.Path(path).read_bytes()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.lock', 'a') as lock:
      # The system frees it if this process dies.
      fcntl.flock(lock, fcntl.LOCK_EX)
      with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(path).read_bytes()
      data = make()
      _write(path, data)
      return data
  except OSError as e:
    raise ValueError(
      f'{path} cannot be read or written ({e.strerror}). Name another '
      'directory for such files by the Param cache_dir or the environment '
      'variable XDG_CACHE_HOME.'
    ) from e


def _write(path: str, data: bytes) -> None:
  temporary = pathlib.Path(path + '.new')
  try:
    with temporary.open('wb') as f:
      f.write(data)
      f.flush()
      os.fsync(f.fileno())
    temporary.rename(path)
  finally:
    temporary.unlink(missing_ok=True)
