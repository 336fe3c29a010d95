# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mistakes that a user of a command can mend."""

import difflib
import pathlib
import re
import sysconfig
import traceback

_OWN = pathlib.Path(__file__).parents[1]
_MAX_NAMES = 20


class UserError(Exception):
  """A mistake in what a command was given, told in one line."""

  exit_status = 2


def reason(error):
  """What went wrong, in one line: the one that says most of an error's text."""
  # A session's error starts with the stacks that built the ops that failed;
  # what went wrong comes after the last of them, and may be a list.
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


def unknown(flag, value, what, wrong, names):
  """The UserError for a `wrong` name in a flag's value: it has the nearest."""
  names = list(names)
  near = difflib.get_close_matches(wrong, names, n=3, cutoff=0.5)
  text = f'--{flag}={value}: there is no {what} {wrong!r}.'
  if near:
    text += f' Nearest: {", ".join(near)}.'
  elif len(names) < _MAX_NAMES:
    text += f' There are: {", ".join(names)}.'
  return UserError(text)


def place_in_users_code(error):
  """The user's line that an error comes from, 'FILE, line 3: ...', or ''."""
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
