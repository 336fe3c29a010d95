# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mistakes that a user of a command can mend."""

import pathlib
import sysconfig
import traceback

_OWN = pathlib.Path(__file__).parents[1]


class UserError(Exception):
  """A mistake in what a command was given: one line, and no traceback.

  The message names the flag or file, its value, and what to do.

  Attributes:
    exit_status: The status with which the command ends.
  """

  exit_status = 2


def place_in_users_code(error):
  """The line of the user's that `error` comes from.

  Args:
    error: An exception that was raised.

  Returns:
    'file, line 3: the line'; '' if no code but that of installed packages and
    of this one was under way.
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
