# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much memory a process has, and had at most, as Linux counts it.

Resident memory counts pages of libraries as well as data, so what matters is
the difference of two readings. Part of a peak is heap that the C library keeps
for later: with MALLOC_MMAP_THRESHOLD_ in a process's environment each larger
block is a mapping of its own, gone when it is freed. On CPUs where TensorFlow
uses oneDNN it also has an allocator of its own, which gives nothing back, and
which TF_ENABLE_ONEDNN_OPTS=0 turns off. With both the readings show what is
really alive. That is slow, and for measuring memory only.
"""

import pathlib

ALIVE_ONLY_ENV = {
  'MALLOC_MMAP_THRESHOLD_': '65536',
  'TF_ENABLE_ONEDNN_OPTS': '0',
}

_PROC = pathlib.Path('/proc')


def available() -> bool:
  """Whether this system tells: Linux."""
  return (_PROC / 'self' / 'status').is_file()


def resident_bytes(pid: int | None = None) -> int:
  """The memory that a process has now; of this process by default."""
  return _field('VmRSS', pid)


def anonymous_bytes(pid: int | None = None) -> int:
  """Its memory now without pages of files, such as code."""
  return _field('RssAnon', pid)


def file_bytes(pid: int | None = None) -> int:
  """The pages of files, such as code, in its memory now."""
  return _field('RssFile', pid)


def peak_bytes(pid: int | None = None) -> int:
  """The most memory that a process ever had since `reset_peak`, or at all."""
  return _field('VmHWM', pid)


def reset_peak(pid: int | None = None) -> None:
  """Starts a new peak at what the process has now; OSError: not allowed."""
  (_PROC / str(pid or 'self') / 'clear_refs').write_text('5')


def _field(name: str, pid: int | None) -> int:
  """A field of /proc/PID/status, which has kB, in bytes."""
  path = _PROC / str(pid or 'self') / 'status'
  for line in path.read_text().splitlines():
    key, _, value = line.partition(':')
    if key == name:
      return int(value.split()[0]) * 1024
  raise ValueError(f'{path} has no {name}: it is no process of Linux.')
