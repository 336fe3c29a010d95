# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A forked process that is followed: log, heartbeat, memory and end.

It is forked from a process that has imported everything, which saves the time
and the memory of importing it again. That process must not have run TensorFlow
before: threads do not survive a fork.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

_BEAT_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_MIB = 2**20


def _die_with_parent(parent: int) -> None:
  """Has this process killed when its parent ends, however that does."""
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:  # It has ended already.
    os._exit(1)


def _beat(descriptor: int) -> None:
  while True:
    try:
      os.write(descriptor, b'.')
    except OSError:
      return
    time.sleep(_BEAT_SECONDS)


class Child:
  """A child process, from its start on.

  Attributes:
    name: What to call it, 'worker 0' say.
    log_path: The file with its output.
    status: How it ended: its exit status, or minus the signal that killed it;
      None while it runs.
    own_peak_mib: Peak of its memory in MiB, beyond what it had when it was
      forked.
  """

  def __init__(
    self,
    name: str,
    body: Callable[[], int],
    log_path: str,
    *,
    on_terminal: bool = False,
  ) -> None:
    """Starts it.

    Args:
      body: What it does; returns its exit status.
      log_path: Its output is added to this file.
      on_terminal: Whether it has this process's output instead.
    """
    self.name = name
    self.log_path = log_path
    self.status: int | None = None
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    self._beats, beats = os.pipe()
    self.pid = os.fork()
    if not self.pid:
      os.close(self._beats)
      self._run(body, parent, beats, None if on_terminal else log_path)
    os.close(beats)
    os.set_blocking(self._beats, False)
    self._last_beat = time.monotonic()
    self._first_mib = self._memory_mib('VmRSS')
    self.own_peak_mib = 0.0

  @staticmethod
  def _run(
    body: Callable[[], int], parent: int, beats: int, log_path: str | None
  ) -> None:
    """Runs in the child; never returns."""
    status = 1
    try:
      _die_with_parent(parent)
      # A Ctrl-C is for the launcher, which then ends its children in order.
      os.setpgid(0, 0)
      signal.signal(signal.SIGINT, signal.default_int_handler)
      signal.signal(signal.SIGTERM, signal.SIG_DFL)
      if log_path:
        descriptor = os.open(
          log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
      threading.Thread(target=_beat, args=(beats,), daemon=True).start()
      status = body()
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(status)

  def _memory_mib(self, field: str) -> float:
    """A field of its status; 0 once it has ended."""
    with contextlib.suppress(OSError):
      text = pathlib.Path(f'/proc/{self.pid}/status').read_text()
      match = re.search(rf'^{field}:\s+(\d+) kB', text, re.MULTILINE)
      if match:
        return int(match[1]) * 1024 / _MIB
    return 0.0

  def poll(self) -> bool:
    """Looks after it; returns whether it still runs."""
    if self.status is not None:
      return False
    with contextlib.suppress(BlockingIOError):
      while os.read(self._beats, 4096):
        self._last_beat = time.monotonic()
    peak = self._memory_mib('VmHWM') - self._first_mib
    self.own_peak_mib = max(self.own_peak_mib, peak)
    pid, status = os.waitpid(self.pid, os.WNOHANG)
    if not pid:
      return True
    self._ended(status)
    return False

  def silent_seconds(self) -> float:
    """Seconds since the last sign of life."""
    return time.monotonic() - self._last_beat

  def _ended(self, status: int) -> None:
    self.status = os.waitstatus_to_exitcode(status)
    os.close(self._beats)

  def signal(self, number: int) -> None:
    """Sends it a signal, if it runs."""
    if self.status is None:
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def kill(self) -> None:
    """Ends it at once."""
    if self.poll():
      self.signal(signal.SIGKILL)
      self._ended(os.waitpid(self.pid, 0)[1])

  def describe_end(self) -> str:
    """How it ended, in words."""
    if self.status is None:
      return 'runs'
    if self.status < 0:
      return f'was killed by {signal.Signals(-self.status).name}'
    return f'ended with status {self.status}'
