# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs one test file by pytest, for Bazel: pytest_main.py FILE [ARGUMENT...].

Paths are relative to the repository's root. Results go where Bazel's test
environment says, and `--test_filter` is an expression for pytest's -k.
"""

import os
import pathlib
import sys


def arguments(root: pathlib.Path, file: str, *more: str) -> list[str]:
  """Arguments for pytest, to run a file of the repository at `root`."""
  result = [str(root / file)]
  result += [f'--rootdir={root}', f'--config-file={root / "pyproject.toml"}']
  result += ['-p', 'no:cacheprovider']
  for variable, option in (
    ('XML_OUTPUT_FILE', '--junitxml={}'),
    ('TEST_TMPDIR', '--basetemp={}/pytest'),
    ('TESTBRIDGE_TEST_ONLY', '-k={}'),
  ):
    value = os.environ.get(variable)
    if value:
      result.append(option.format(value))
  return [*result, *more]


def main() -> int:
  """Runs pytest and returns its exit status."""
  # Python puts a program's directory on the path, links followed.
  own = os.path.dirname(os.path.realpath(__file__))
  sys.path[:] = [p for p in sys.path if os.path.realpath(p) != own]
  # Plugins that happen to be installed are not declared, and slow to import.
  os.environ.setdefault('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')
  # The user's home cannot be written in Bazel's sandbox.
  if 'TEST_TMPDIR' in os.environ:
    cache = os.path.join(os.environ['TEST_TMPDIR'], 'cache')
    os.environ.setdefault('XDG_CACHE_HOME', cache)
  import pytest

  root = pathlib.Path(os.path.abspath(__file__)).parents[2]
  os.chdir(root)
  return int(pytest.main(arguments(root, *sys.argv[1:])))


if __name__ == '__main__':
  sys.exit(main())
