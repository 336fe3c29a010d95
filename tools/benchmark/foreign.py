# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A program for another interpreter, told what to do, line by line, in JSON."""

import contextlib
import json
import os
import subprocess
import tempfile
from typing import Any

from tools.benchmark.fresh import ProcessError, ended

_STOP_SECONDS = 10
# One thread, whatever the surroundings say.
_ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


class ForeignProcess:
  """Runs a file; each line it writes is the reply to a command."""

  def __init__(self, python: str, file: str, argument: Any):
    """Starts the process; `stop` ends it.

    Args:
      python: The interpreter. It sees none of this one's packages.
      file: The program.
      argument: Its only command-line argument, as JSON.

    Raises:
      ProcessError: There is no such interpreter.
    """
    # Open for as long as the process runs.
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    variables = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', **_ONE_THREAD}
    variables.pop('PYTHONPATH', None)
    try:
      self._process = subprocess.Popen(
        [python, file, json.dumps(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        text=True,
        env=variables,
      )
    except OSError as error:
      self._errors.close()
      raise ProcessError(f'{python} cannot be started: {error}') from error
    pipes = self._process.stdin, self._process.stdout
    assert pipes[0] is not None and pipes[1] is not None
    self._input, self._output = pipes[0], pipes[1]

  def receive(self) -> Any:
    """Waits for the next line.

    Raises:
      ProcessError: The process ended; the message has the end of its errors.
    """
    line = self._output.readline()
    if line:
      return json.loads(line)
    raise ended(self._process.wait(), self._errors)

  def ask(self, **command: Any) -> Any:
    """Sends a command and waits for the reply."""
    # If it has ended, receive() tells why.
    with contextlib.suppress(BrokenPipeError):
      self._input.write(json.dumps(command) + '\n')
      self._input.flush()
    return self.receive()

  def stop(self) -> None:
    """Ends the process."""
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
