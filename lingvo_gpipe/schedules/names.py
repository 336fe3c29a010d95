# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks what a user chooses by name."""

from collections.abc import Sequence


def check(what: str, name: str, allowed: Sequence[str]) -> None:
  """Raises ValueError if a name is none of those allowed.

  Args:
    what: What is chosen, for the message.
    name: What the user gave.
    allowed: The names there are.
  """
  if name not in allowed:
    raise ValueError(
      f'There is no {what} {name!r}; it must be one of '
      f'{", ".join(map(repr, allowed))}.'
    )
