# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs something in a process of its own, and can watch its memory.

```
  this process --> server --fork--> function --fork--> worker 0, worker 1, ...
       |                               |                  ^
       |                               |--- reads their peaks
       |  <--- result, or an error ----'
       '-- kills them all at the end
```

The server, of `multiprocessing`, has imported everything, and each process
starts from its memory: nothing is left over from the one before.
"""

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any
from unittest import mock

from tools.common import command, process_memory

_TIMEOUT = 600.0
_POLL_SECONDS = 0.05
_SHOWN = 2000
_SHOWN_LINES = 15

# A process gets its environment while no other does.
_STARTING = threading.Lock()


class ProcessError(command.MeasuringError):
  """A process failed, or ended before it replied."""


class OverBudgetError(ProcessError):
  """A worker took more memory than it may."""


def run_module(module: str, *args: str) -> tuple[str, float]:
  """Runs `python -m` a module; returns what it printed, and the seconds.

  Raises:
    ProcessError: Its exit status is not 0.
  """
  started = time.monotonic()
  result = subprocess.run(
    [sys.executable, '-m', module, *args],
    env={**os.environ, **_environment()},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    encoding='utf-8',
    errors='replace',
    check=False,
  )
  if result.returncode:
    why = f'exit status {result.returncode}'
    raise failed(f'{" ".join((module, *args))}: {why}', result.stdout)
  return result.stdout, time.monotonic() - started


def failed(why: str, output: str) -> ProcessError:
  """The error of a process, with the last lines it printed."""
  last = '\n'.join(output.splitlines()[-_SHOWN_LINES:])
  return ProcessError(f'{why}\n{last}')


def ended(status: int | None, log: Any) -> ProcessError:
  """The error of a process that ended, with the last lines of a file."""
  log.seek(0)
  why = f'The process ended with status {status}:'
  return failed(why, log.read().decode(errors='replace'))


def _environment() -> dict[str, str]:
  return {
    'CUDA_VISIBLE_DEVICES': '',
    'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
  }


class Process:
  """A process with an object in it, whose methods are called from here."""

  def __init__(self, make: str, *args: Any, **kwargs: Any):
    """Starts the process; `stop` ends it, or the end of a with block.

    Args:
      make: What makes the object, called in the process for the first command;
        by name, so that this process need not import it.
      args: Its arguments.
      kwargs: More arguments.
    """
    context: Any = multiprocessing.get_context('forkserver')
    # What the process prints, for errors.
    self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115
    self._channel, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve,
      args=(theirs, self._log.name, make, args, kwargs),
    )
    with _STARTING, mock.patch.dict(os.environ, _environment()):
      context.set_forkserver_preload(['tools.benchmark.preload'])
      self._process.start()
    theirs.close()
    self.pid: int = self._process.pid

  def ask(self, method: str, *args: Any, timeout: float = _TIMEOUT) -> Any:
    """Calls a method of the object, or gets what it is made of for ''.

    Raises:
      OverBudgetError: See `watching`.
      ProcessError: It failed, took too long, or the process ended.
    """
    try:
      self._channel.send((method, args))
      if not self._channel.poll(timeout):
        raise ProcessError(f'It took more than {timeout:.0f} s.')
      error, result = self._channel.recv()
    except (EOFError, ConnectionError):
      self._process.join()
      raise ended(self._process.exitcode, self._log) from None
    if error:
      raise error(result)
    return result

  def stop(self) -> None:
    """Ends the process and what it started."""
    self._channel.close()
    # It may not have made its group yet.
    for kill in (os.killpg, os.kill):
      with contextlib.suppress(ProcessLookupError):
        kill(self.pid, signal.SIGKILL)
    self._process.join()
    self._log.close()

  def __enter__(self) -> 'Process':
    return self

  def __exit__(self, *unused: Any) -> None:
    self.stop()


def call(
  function: str, *args: Any, timeout: float = _TIMEOUT, **kwargs: Any
) -> Any:
  """Calls a function of this full name in a process of its own.

  For the other arguments see `Process` and its `ask`.
  """
  with Process(function, *args, **kwargs) as process:
    return process.ask('', timeout=timeout)


class AliveOnly(futures.ProcessPoolExecutor):
  """Processes from which `call` starts others whose memory is all alive.

  See `process_memory`. A call in each of them is made at the same time.
  """

  def __init__(self, number: int = 1):
    super().__init__(
      number,
      multiprocessing.get_context('spawn'),
      initializer=_begin,
      initargs=(process_memory.ALIVE_ONLY_ENV,),
    )

  def call(self, *what: Any, **how: Any) -> Any:
    """The same as `call` in one of them."""
    return self.submit(call, *what, **how).result()


def _begin(environment: dict[str, str]) -> None:
  os.environ.update(environment)
  _end_with_parent(lambda: os._exit(1))


# -- In the process.

_channel: Any = None
# A result, or the text of an error.
_Reply = tuple[type[ProcessError] | None, Any]


@contextlib.contextmanager
def watching(pids: Sequence[int], budget: float) -> Iterator[None]:
  """Ends the call that this process is for if a worker has more than a budget.

  Args:
    pids: The workers, until the block ends.
    budget: Bytes that the peak of each may reach.
  """
  done = threading.Event()

  def run() -> None:
    what: _Reply = None, None
    while what[0] is None and not done.wait(_POLL_SECONDS):
      try:
        peak = max(map(process_memory.peak_bytes, pids))
        if peak > budget:
          what = OverBudgetError, f'A peak is {peak} bytes.'
      except (OSError, ValueError):
        what = ProcessError, 'A worker ended, perhaps for lack of memory.'
    if what[0]:
      _channel.send(what)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def _end_with_parent(end: Callable[[], None]) -> None:
  """Has `end` called when the process that started this one has ended."""
  parent = multiprocessing.parent_process()
  assert parent is not None

  def wait() -> None:
    parent.join()
    end()

  threading.Thread(target=wait, daemon=True).start()


def _serve(
  channel: Any, log: str, make: str, args: Any, kwargs: dict[str, Any]
) -> None:
  """Carries out commands until the other end closes."""
  global _channel
  _channel = channel
  # Its workers are in its group.
  os.setpgid(0, 0)
  _end_with_parent(lambda: os.killpg(0, signal.SIGKILL))
  stream = os.open(log, os.O_WRONLY | os.O_APPEND)
  for printed in (1, 2):
    os.dup2(stream, printed)
  command.parse_no_flags()
  target = None
  with contextlib.suppress(EOFError, ConnectionError):
    while True:
      method, given = channel.recv()
      try:
        target = target or pkgutil.resolve_name(make)(*args, **kwargs)
        result = getattr(target, method)(*given) if method else target
        reply: _Reply = None, result
      except Exception as error:
        traceback.print_exc()
        reply = ProcessError, f'{type(error).__name__}: {error}'[-_SHOWN:]
      channel.send(reply)
