# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Warnings that the user is to see at once, while the log goes to a file."""

import contextlib

from absl import logging

_stream = None


@contextlib.contextmanager
def shown_on(stream):
  """Inside, warnings are also written to `stream`, a text stream."""
  global _stream
  before, _stream = _stream, stream
  try:
    yield
  finally:
    _stream = before


def warn(text):
  """Logs a warning, and shows it to the user if there is a stream for that."""
  logging.warning('%s', text)
  if _stream is None:
    return
  # A progress bar may stand on the line.
  start = '\n' if _stream.isatty() else ''
  print(f'{start}Warning: {text}', file=_stream, flush=True)
