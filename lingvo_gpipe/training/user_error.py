# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mistakes that a user of a command can mend."""

import difflib
import pathlib
import re
import sysconfig
import traceback

_OWN = pathlib.Path(__file__).parents[1]
# More names than that are not worth reading.
_MAX_NAMES = 20


class UserError(Exception):
  """A mistake in what a command was given: one line, and no traceback.

  The message names the flag or file, its value, and what to do.
  """

  exit_status = 2


def reason(error):
  """What went wrong, in one line: the one that says most of an error's text.

  A session's error starts with the stacks that built the ops that failed; what
  went wrong comes after the last line that names one, and may be a list of root
  errors.
  """
  text = str(getattr(error, 'message', '') or error)
  for pattern in (
    r'^\s*\(0\) (.+)$',
    r'(?s:.*)^Node: .*\n\s*(.+)$',
    r'^\s*(\S.*)$',
  ):
    match = re.search(pattern, text, re.MULTILINE)
    if match:
      return match[1].strip()
  return type(error).__name__


def nearest(wrong, names):
  """'Nearest: a, b.' of `names`; all if none is near, but '' if too many."""
  names = list(names)
  near = difflib.get_close_matches(wrong, names, n=3, cutoff=0.5)
  if near:
    return f'Nearest: {", ".join(near)}.'
  return f'There are: {", ".join(names)}.' if len(names) < _MAX_NAMES else ''


def place_in_users_code(error):
  """The line of the user's that `error` comes from, 'file, line 3: the line'.

  '' if no code but that of installed packages and of this one was under way.
  """
  if isinstance(error, SyntaxError) and error.filename:
    return (
      f'{error.filename}, line {error.lineno}: {(error.text or "").strip()}'
    )
  others = [_OWN, *(pathlib.Path(p) for p in sysconfig.get_paths().values())]
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    file = pathlib.Path(frame.filename)
    if file.exists() and not any(file.is_relative_to(p) for p in others):
      return f'{frame.filename}, line {frame.lineno}: {frame.line}'
  return ''
