# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes the BUILD files from what the project's Python files import.

Example, in the repository's root:

  python -m build_tools.build_files

Imports in functions count, and so do programs in strings ('import x'), names
of modules and models in strings ('lingvo_gpipe.trainer',
'--model=image.digits.AmoebaNetD') and paths of files ('docs/page.md'). What is
not written out like that is declared in build_tools/declarations.py.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from build_tools import targets
from build_tools.import_graph import BuildError

ROOT = pathlib.Path(__file__).absolute().parents[1]

ADVICE = 'Run: python -m build_tools.build_files'

# Has BUILD files of its own, which are written by hand.
_OTHERS = ('third_party', '.venv', 'build', 'dist')


def stale(root: pathlib.Path, current: Mapping[str, str]) -> list[str]:
  """The BUILD files that are missing, differ or have no place, sorted.

  Args:
    root: the repository.
    current: what they should be, by path.
  """
  result = set()
  for path, text in current.items():
    file = root / path
    if not file.is_file() or file.read_text(encoding='utf-8') != text:
      result.add(path)
  for file in root.rglob('BUILD'):
    path = str(file.relative_to(root))
    if path.partition('/')[0] not in _OTHERS and file.is_file():
      result |= {path} - set(current)
  return sorted(result)


def _write(root: pathlib.Path, current: Mapping[str, str]) -> None:
  for path in stale(root, current):
    if path in current:
      (root / path).write_text(current[path], encoding='utf-8')
      print(f'wrote {path}')
    else:
      (root / path).unlink()
      print(f'removed {path}')


def main(
  argv: Sequence[str] | None = None,
  root: pathlib.Path = ROOT,
  **tables: Any,
) -> int:
  """Runs the command; returns its exit status.

  Args:
    argv: the arguments; those of the process if None.
    root: the repository.
    **tables: tables for `targets.build_files`, in place of `declarations`.
  """
  parser = argparse.ArgumentParser(
    prog='python -m build_tools.build_files',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--check',
    action='store_true',
    help='Write nothing; exit with status 1 if a BUILD file is not current.',
  )
  args = parser.parse_args(argv)
  try:
    current = targets.build_files(root, **tables)
  except BuildError as error:
    print(f'build_files: {error}', file=sys.stderr)
    return 2
  if not args.check:
    _write(root, current)
    return 0
  names = stale(root, current)
  if names:
    print(f'Not current: {", ".join(names)}. {ADVICE}', file=sys.stderr)
  return 1 if names else 0


if __name__ == '__main__':
  sys.exit(main())
