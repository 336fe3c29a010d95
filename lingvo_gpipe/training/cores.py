# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which cores a process may use."""

import contextlib
import os
import pathlib


def num_usable() -> int:
  return len(os.sched_getaffinity(0))


def bind_all_threads(cores: set[int], pid: int | str = 'self') -> None:
  """Binds every thread of a process. OSError: not allowed, or no process."""
  done: set[int] = set()
  # A thread that is started meanwhile may have its starter's old cores, so
  # this goes on until no new one is found.
  while True:
    threads = pathlib.Path(f'/proc/{pid}/task').iterdir()
    new = {int(entry.name) for entry in threads} - done
    if not new:
      return
    for thread in new:
      with contextlib.suppress(ProcessLookupError):  # It has ended.
        os.sched_setaffinity(thread, cores)
    done |= new
