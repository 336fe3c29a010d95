# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mistakes that a user of a command can mend."""


class UserError(Exception):
  """A mistake in what a command was given: one line, and no traceback.

  The message names the flag or file, its value, and what to do.

  Attributes:
    exit_status: The status with which the command ends.
  """

  exit_status = 2
