# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps the log lines of TensorFlow and Lingvo off the terminal.

TensorFlow's C++ part writes to file descriptor 2 from the moment it is
imported, before any flag is known. So the descriptor itself is led into a file:

    descriptor 2 ---> a temporary file ---> LOGDIR/NAME, once that is known
    the terminal ---> `RunLog.terminal`, for what the user should see

This module imports neither TensorFlow nor Lingvo, so that it can come first.
"""

import contextlib
import os
import shutil
import sys
import tempfile


class RunLog:
  """Descriptor 2 led into a file, until `close`.

  Attributes:
    terminal: A text stream on what descriptor 2 was before.
    path: The file's path.
  """

  def __init__(self):
    sys.stderr.flush()
    self.terminal = os.fdopen(os.dup(2), 'w', buffering=1)
    descriptor, self.path = tempfile.mkstemp(
      prefix='lingvo_gpipe_', suffix='.log'
    )
    self._lead(descriptor)
    self._temporary = True

  def _lead(self, descriptor):
    os.dup2(descriptor, 2)
    os.close(descriptor)

  def move_to(self, path):
    """Goes on in the file `path`, after what has been logged so far.

    Raises:
      OSError: if the file can't be written; the log then stays where it was.
    """
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with open(self.path, 'rb') as old, os.fdopen(descriptor, 'ab') as new:
      shutil.copyfileobj(old, new)
      new.flush()
      self._lead(os.dup(new.fileno()))
    self._remove_temporary()
    self.path = path

  def close(self, keep=True):
    """Leads descriptor 2 back to where it went before.

    Args:
      keep: Whether to keep the file if it is still the temporary one.
    """
    with contextlib.suppress(OSError):  # The disk may be full.
      sys.stderr.flush()
    self.terminal.flush()
    os.dup2(self.terminal.fileno(), 2)
    self.terminal.close()
    if not keep:
      self._remove_temporary()

  def _remove_temporary(self):
    if self._temporary:
      self._temporary = False
      with contextlib.suppress(FileNotFoundError):
        os.remove(self.path)
