# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Forks of this process that carry out commands, one at a time.

```
  this process --socket--> worker 0
       |-------socket----> worker 1     what is imported is imported once
```

This process must not run TensorFlow: threads do not survive a fork.
"""

import contextlib
import json
import os
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Any

_SHOWN = 2000


class WorkerError(RuntimeError):
  """A worker failed, or is gone."""


class ForkedWorker:
  """A fork of this process; use `stop` when it is no longer wanted."""

  def __init__(self, make: Callable[[], Callable[[dict[str, Any]], Any]]):
    """Forks.

    Args:
      make: Called in the fork; what it returns is called with each command,
        and returns what JSON can hold.
    """
    ours, theirs = socket.socketpair()
    self.pid = os.fork()
    if not self.pid:
      ours.close()
      _serve(make, theirs)
    theirs.close()
    self._stream = ours.makefile('rw')
    ours.close()

  def ask(self, command: dict[str, Any]) -> Any:
    """Sends a command and waits for the reply.

    Raises:
      WorkerError: It failed; the message has the end of what it says.
    """
    line = ''
    with contextlib.suppress(OSError):
      self._stream.write(json.dumps(command) + '\n')
      self._stream.flush()
      line = self._stream.readline()
    if not line:
      raise WorkerError('The process ended without a reply.')
    reply = json.loads(line)
    if 'error' in reply:
      raise WorkerError(reply['error'])
    return reply['reply']

  def stop(self) -> None:
    """Ends the worker."""
    # Closing writes what a worker that has ended did not take.
    with contextlib.suppress(OSError):
      self._stream.close()
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.pid, signal.SIGKILL)
    os.waitpid(self.pid, 0)


def _serve(
  make: Callable[[], Callable[[dict[str, Any]], Any]], channel: socket.socket
) -> None:
  """Carries out commands until the socket closes, and ends the process."""
  try:
    stream = channel.makefile('rw')
    carry_out = None
    for line in stream:
      try:
        carry_out = carry_out or make()
        reply = {'reply': carry_out(json.loads(line))}
      except Exception as error:
        traceback.print_exc()
        reply = {'error': f'{type(error).__name__}: {error}'[-_SHOWN:]}
      stream.write(json.dumps(reply) + '\n')
      stream.flush()
  finally:
    os._exit(0)
