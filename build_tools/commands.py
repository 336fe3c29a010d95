# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The commands that setup.py installs."""

import ast
import re

_SCRIPT = re.compile(r'lingvo_gpipe_(\w+) *= *([\w.]+:\w+)')


def console_scripts(setup: str) -> dict[str, str]:
  """What each console script calls.

  Args:
    setup: the text of setup.py.

  Returns:
    'module:function' by the script's name without 'lingvo_gpipe_'.
  """
  strings = (
    node.value
    for node in ast.walk(ast.parse(setup))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  )
  found = filter(None, map(_SCRIPT.fullmatch, strings))
  return {match[1]: match[2] for match in found}
