# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a function in a fork of this process and watches its processes' memory.

```
  this process --fork--> the function --fork--> worker 0, worker 1, ...
       |                      |                     ^
       |  <-- ids of workers--'                     |
       |---------------- reads their peaks ---------'
       '-- kills them all if one passes its budget
```

Each call starts from the same memory: no heap is left over from the last one.
This process must not run TensorFlow: threads do not survive a fork.
"""

import contextlib
import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from tools.benchmark import process_memory

_POLL_SECONDS = 0.05


def call(
  function: Callable[[Callable[[list[int]], None]], Any],
  budget: int,
  timeout: float,
) -> dict[str, Any]:
  """Calls a function in a fork, in a process group of its own.

  Args:
    function: It is given a function to announce process ids with, and returns
      what JSON can hold.
    budget: Bytes that the peak of no announced process may exceed.
    timeout: Seconds it may take.

  Returns:
    One of {'result': what it returned}; {'over': the peak of each announced
    process, bytes}, if one exceeded the budget and all were killed; {'error':
    text}.
  """
  reader, writer = os.pipe()
  pid = os.fork()
  if not pid:
    os.close(reader)
    _run(function, writer)
  os.close(writer)
  try:
    with open(reader, 'rb', buffering=0) as stream:
      return _watch(stream, budget, timeout)
  finally:
    # Its workers are in its group. It may not have made the group yet.
    for kill in (os.killpg, os.kill):
      with contextlib.suppress(ProcessLookupError):
        kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _run(function: Callable[..., Any], writer: int) -> None:
  """Calls the function, sends what it returns, and ends the process."""

  def send(**message: Any) -> None:
    os.write(writer, (json.dumps(message) + '\n').encode())

  try:
    os.setpgid(0, 0)
    send(result=function(lambda pids: send(pids=pids)))
  except BaseException as error:
    traceback.print_exc()
    send(error=f'{type(error).__name__}: {error}'[-2000:])
  finally:
    os._exit(0)


def _watch(stream: Any, budget: int, timeout: float) -> dict[str, Any]:
  """Reads messages until one ends the call."""
  pids: list[int] = []
  peaks: list[int] = []
  text = b''
  deadline = time.monotonic() + timeout
  parent = os.getppid()
  while time.monotonic() < deadline:
    if os.getppid() != parent:
      return {'error': 'The process that asked is gone.'}
    ready, _, _ = select.select([stream], [], [], _POLL_SECONDS)
    if ready:
      data = stream.read(65536)
      if not data:
        return {'error': 'The process ended without a result.'}
      *lines, text = (text + data).split(b'\n')
      for line in lines:
        message = json.loads(line)
        if 'pids' not in message:
          return message
        pids = message['pids']
    try:
      peaks = [process_memory.peak_bytes(pid) for pid in pids]
    except (OSError, ValueError):
      # A worker is gone: either all is over, or it was killed.
      if not _alive(pids) and not select.select([stream], [], [], 2)[0]:
        return {'error': 'A worker ended, perhaps for lack of memory.'}
      continue
    if any(peak > budget for peak in peaks):
      return {'over': peaks}
  return {'error': f'It took more than {timeout:.0f} s.'}


def _alive(pids: list[int]) -> bool:
  """Whether all have memory: a zombie has none."""
  try:
    return all(process_memory.resident_bytes(pid) for pid in pids)
  except (OSError, ValueError):
    return False
