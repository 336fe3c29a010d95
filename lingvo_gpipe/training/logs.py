# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Log lines go to a file, warnings to the terminal as well.

TensorFlow's C++ part writes to descriptor 2 from its import on, before any flag
is known. So the descriptor itself is led into a file:

    descriptor 2 ---> a temporary file ---> LOGDIR/NAME, once that is known
    the terminal ---> `RunLog.terminal`, for what the user should see

This module imports neither TensorFlow nor Lingvo, so that it can come first.
"""

import contextlib
import os
import shutil
import sys
import tempfile

from absl import logging

_warnings_to = None


class RunLog:
  """Descriptor 2 led into the file `path`, until `close`."""

  def __init__(self):
    sys.stderr.flush()
    self.terminal = os.fdopen(os.dup(2), 'w', buffering=1)
    descriptor, self.path = tempfile.mkstemp(
      prefix='lingvo_gpipe_', suffix='.log'
    )
    os.dup2(descriptor, 2)
    os.close(descriptor)
    self._temporary = self.path

  def move_to(self, path):
    """Continues in another file; OSError if it can't be written."""
    sys.stderr.flush()
    with open(self.path, 'rb') as old, open(path, 'ab') as new:
      shutil.copyfileobj(old, new)
      new.flush()
      os.dup2(new.fileno(), 2)
    self.path = path
    os.remove(self._temporary)

  def close(self, keep=True):
    """Leads descriptor 2 back; a file still temporary goes unless `keep`."""
    with contextlib.suppress(OSError):  # The disk may be full.
      sys.stderr.flush()
    self.terminal.flush()
    os.dup2(self.terminal.fileno(), 2)
    self.terminal.close()
    if self.path == self._temporary and not keep:
      os.remove(self.path)


@contextlib.contextmanager
def warnings_shown_on(stream):
  """Inside, `warn` also writes to `stream`, a text stream."""
  global _warnings_to
  before, _warnings_to = _warnings_to, stream
  try:
    yield
  finally:
    _warnings_to = before


def warn(text):
  logging.warning('%s', text)
  if _warnings_to is not None:
    # A progress bar may stand on the line.
    start = '\n' if _warnings_to.isatty() else ''
    print(f'{start}Warning: {text}', file=_warnings_to, flush=True)
