# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which cores a process may use, and does."""

import contextlib
import os
import pathlib


def num_usable() -> int:
  """How many cores this process may use."""
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


class OneCore:
  """All threads of this process on one core, from `pin` to `release`.

  TensorFlow's thread pools are bound as well, so the same session, graph and
  schedule runs on one core without being built again.
  """

  def __init__(self) -> None:
    self._cores = os.sched_getaffinity(0)
    self.pinned = False

  @property
  def available(self) -> bool:
    """Whether there is a choice of cores."""
    return len(self._cores) > 1

  def pin(self) -> None:
    """Binds all threads to the first core. OSError: not allowed here."""
    self.pinned = True
    bind_all_threads({min(self._cores)})

  def release(self) -> None:
    """Gives all threads their cores back."""
    if self.pinned:
      bind_all_threads(self._cores)
      self.pinned = False
