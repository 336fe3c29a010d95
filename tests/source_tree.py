# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Small repositories to write BUILD files for."""

import pathlib

from build_tools import targets


def write(root, files):
  """Writes files, contents by path, and returns `root`."""
  for path, text in {'setup.py': '', **files}.items():
    file = pathlib.Path(root, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding='utf-8')
  return root


def build_files(root, files, **tables):
  """The BUILD files for `files`, by path; no table says anything else."""
  tables = {
    'loads': {},
    'loads_any': {},
    'reads': {},
    'test_attributes': {},
    **tables,
  }
  return targets.build_files(write(root, files), **tables)


def target(build_file, name):
  """The text of the target `name` in one line, without its name."""
  for block in build_file.split('\n\n'):
    line = ' '.join(block.split())
    if f'( name = "{name}",' in line:
      return line.replace(f'( name = "{name}", ', '(')
  raise AssertionError(f'no target {name} in:\n{build_file}')
