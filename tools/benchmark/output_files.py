# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes what was found to the files that the user named."""

import json
import pathlib
from typing import Any


def write_json(path: str | None, value: Any) -> None:
  """Writes a value as JSON; nothing if there is no path."""
  if path:
    text = json.dumps(value, indent=2, sort_keys=True)
    pathlib.Path(path).write_text(text + '\n', encoding='utf-8')


def write_text(path: str | None, text: str) -> None:
  """Writes text; nothing if there is no path."""
  if path:
    pathlib.Path(path).write_text(text.rstrip('\n') + '\n', encoding='utf-8')
