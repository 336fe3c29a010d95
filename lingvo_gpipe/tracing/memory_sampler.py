# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads how much memory processes have while a step runs, as Linux counts it.

A thread of the traced process reads it each millisecond, its own and that of
the workers that were started beside it. Nothing runs in the workers for that.
"""

import contextlib
import os
import threading
import time
from collections.abc import Sequence

from lingvo_gpipe.launching.local_cluster import WORKER_PIDS
from lingvo_gpipe.tracing.events import MemorySample, process_of

_SECONDS = 0.001


def local_pids(devices: Sequence[str], *, uses_servers: bool) -> dict[str, int]:
  """The processes of CPU devices that run on this machine, and their ids.

  Args:
    devices: Full names.
    uses_servers: Whether they are those of workers, not of this process.
  """
  processes = sorted({process_of(name) for name in devices if 'CPU' in name})
  if not uses_servers:
    return dict.fromkeys(processes, os.getpid())
  workers = os.environ.get(WORKER_PIDS, '').split()
  by_name = {
    f'/job:worker/replica:0/task:{task}': int(pid)
    for task, pid in enumerate(workers)
  }
  return {name: by_name[name] for name in processes if name in by_name}


class MemorySampler(contextlib.ExitStack):
  """Reads until its with block ends.

  Attributes:
    samples: What it has read; times are in seconds after the block began.
  """

  def __init__(self, pids: dict[str, int]):
    super().__init__()
    self.samples: list[MemorySample] = []
    self._pids = pids
    self._over = threading.Event()

  def __enter__(self) -> 'MemorySampler':
    files: dict[str, int] = {}
    # Not on Linux, or ended: nothing is known of it.
    with contextlib.suppress(OSError):
      for process, pid in self._pids.items():
        files[process] = os.open(f'/proc/{pid}/statm', os.O_RDONLY)
        self.callback(os.close, files[process])
    thread = threading.Thread(target=self._read, args=(files, time.time()))
    self.callback(thread.join)
    self.callback(self._over.set)
    thread.start()
    return self

  def _read(self, files: dict[str, int], started: float) -> None:
    page = os.sysconf('SC_PAGE_SIZE')
    while files and not self._over.wait(_SECONDS):
      for process, file in files.items():
        now = time.time() - started
        resident = int(os.pread(file, 100, 0).split()[1]) * page
        self.samples.append(MemorySample(process, now, resident))
