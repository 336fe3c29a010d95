# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A child process that is told what to do, line by line, in JSON."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

_STOP_SECONDS = 10
_SHOWN_LINES = 15


class ChildError(RuntimeError):
  """A child process ended before it replied."""


class ChildProcess:
  """Runs a module of Python; each line it writes is the reply to a command.

  Use it as a context manager: the process ends with the block.
  """

  def __init__(
    self,
    module: str,
    argument: Any,
    environment: Mapping[str, str] | None = None,
    python: str | None = None,
  ):
    """Starts the process.

    Args:
      module: The module to run.
      argument: Its only command-line argument, as JSON.
      environment: What to add to the environment.
      python: Another interpreter. It is given the module's file, and none of
        this one's packages.

    Raises:
      ChildError: There is no such interpreter.
    """
    self._module = module
    # Open for as long as the process runs.
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    program = [sys.executable, '-m', module]
    variables = {
      **os.environ,
      'CUDA_VISIBLE_DEVICES': '',
      'TF_CPP_MIN_LOG_LEVEL': '2',
      'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
      **(environment or {}),
    }
    if python is not None:
      spec = importlib.util.find_spec(module)
      assert spec is not None and spec.origin is not None
      program = [python, spec.origin]
      del variables['PYTHONPATH']
    try:
      self._process = subprocess.Popen(
        [*program, json.dumps(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        text=True,
        env=variables,
      )
    except OSError as error:
      self._errors.close()
      raise ChildError(f'{program[0]} cannot be started: {error}') from error
    pipes = self._process.stdin, self._process.stdout
    assert pipes[0] is not None and pipes[1] is not None
    self._input, self._output = pipes[0], pipes[1]

  def receive(self) -> Any:
    """Waits for the next line.

    Raises:
      ChildError: The process ended; the message has the end of its errors.
    """
    line = self._output.readline()
    if line:
      return json.loads(line)
    status = self._process.wait()
    self._errors.seek(0)
    text = self._errors.read().decode(errors='replace')
    last = '\n'.join(text.splitlines()[-_SHOWN_LINES:])
    raise ChildError(f'{self._module} ended with status {status}:\n{last}')

  def ask(self, **command: Any) -> Any:
    """Sends a command and waits for the reply."""
    # If it has ended, receive() tells why.
    with contextlib.suppress(BrokenPipeError):
      self._input.write(json.dumps(command) + '\n')
      self._input.flush()
    return self.receive()

  def __enter__(self) -> 'ChildProcess':
    return self

  def __exit__(self, *unused: Any) -> None:
    # Closing writes what the pipe did not take from `ask`.
    with contextlib.suppress(BrokenPipeError):
      self._input.close()
    try:
      self._process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._output.close()
    self._errors.close()
