# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A thread that reads the memory of local processes while a step runs."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from lingvo_gpipe.launching.local_cluster import WORKER_PIDS
from lingvo_gpipe.tracing.events import process_of

_SECONDS = 0.001


def local_pids(devices: Sequence[str], *, uses_servers: bool) -> dict[str, int]:
  """The ids of the CPU devices' processes that run on this machine.

  `uses_servers`: the devices, full names, are workers', not this process's.
  """
  processes = sorted({process_of(name) for name in devices if 'CPU' in name})
  if not uses_servers:
    return dict.fromkeys(processes, os.getpid())
  workers = {
    f'/job:worker/replica:0/task:{task}': int(pid)
    for task, pid in enumerate(os.environ.get(WORKER_PIDS, '').split())
  }
  return {name: workers[name] for name in processes if name in workers}


@contextlib.contextmanager
def sampled(
  pids: Mapping[str, int],
) -> Iterator[dict[str, list[tuple[float, int]]]]:
  """Reads the memory of processes until the block ends.

  Yields an `events.Memory` that grows, with seconds after the block began. It
  leaves out processes that have ended, and all where this is not Linux.
  """
  samples: dict[str, list[tuple[float, int]]] = {}
  over = threading.Event()
  started, page = time.time(), os.sysconf('SC_PAGE_SIZE')

  def read() -> None:
    while files and not over.wait(_SECONDS):
      for process, file in files.items():
        now = time.time() - started
        resident = int(os.pread(file, 100, 0).split()[1]) * page
        samples[process].append((now, resident))

  with contextlib.ExitStack() as stack:
    files = {}
    for process, pid in pids.items():
      with contextlib.suppress(OSError):
        files[process] = os.open(f'/proc/{pid}/statm', os.O_RDONLY)
        stack.callback(os.close, files[process])
        samples[process] = []
    thread = threading.Thread(target=read)
    stack.callback(thread.join)
    stack.callback(over.set)
    thread.start()
    yield samples
