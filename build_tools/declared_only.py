# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps a program that Bazel starts to the files that its target declares.

Bazel gives each program a directory of links to the files that it declares.
Python follows links and environments name the sources (an editable
installation does), so without this an undeclared module would be found there.

The module sitecustomize, which Python imports when it starts, calls `install`
in each such program and in the Python processes that it starts.
"""

import importlib.machinery
import os
import pathlib
import sys
import types
from collections.abc import Sequence

# That of the caller, in programs that `bazel run` starts.
_WORKING_DIRECTORY = 'BUILD_WORKING_DIRECTORY'


class DeclaredOnly:
  """A finder that hides undeclared top-level modules.

  Hidden are the modules in a directory of sources, and other copies of its
  packages. What installed environments hold besides is found as ever, also
  where they lie in that directory.
  """

  def __init__(self, root: pathlib.Path, sources: pathlib.Path) -> None:
    """Takes directories: `root` is linked to files of `sources`."""
    self._root = root
    self._sources = sources
    self._packages = {
      path.parent.name for path in sources.glob('*/__init__.py')
    }

  def find_spec(
    self,
    name: str,
    path: Sequence[str] | None = None,
    target: types.ModuleType | None = None,
  ) -> importlib.machinery.ModuleSpec | None:
    """The declared module where an undeclared one would be found.

    Args:
      name: the module's full name.
      path: None for a top-level module; others lie in their package.
      target: not used.

    Returns:
      The module's specification, or None to leave finding it to others.

    Raises:
      ModuleNotFoundError: if the module is hidden, and not declared.
    """
    if path is not None:
      return None
    found = _find(name, sys.path)
    if not found or not self._is_hidden(name, _location(found)):
      return None
    declared = _find(
      name, [p for p in sys.path if not self._is_hidden(name, p)]
    )
    if declared:
      return declared
    raise ModuleNotFoundError(
      f'{name!r} is {_location(found)}, which the Bazel target does not '
      'declare. To update the BUILD files: python -m build_tools.build_files',
      name=name,
    )

  def _is_hidden(self, name: str, location: str) -> bool:
    path = pathlib.Path(os.path.abspath(location))
    if name in self._packages:
      return not path.is_relative_to(self._root)
    return path.is_relative_to(self._sources) and not path.is_relative_to(
      sys.prefix
    )


def install() -> None:
  """Has undeclared modules not found from here on.

  Also changes to the directory that `bazel run` was called in, for which
  relative paths in arguments are meant.
  """
  linked = pathlib.Path(os.path.abspath(__file__))
  root, sources = linked.parents[1], linked.resolve().parents[1]
  if sources != root:  # Bazel can be told to copy; then nothing leads back.
    sys.meta_path[:] = [f for f in sys.meta_path if not _is_editable(f)]
    sys.meta_path.insert(0, DeclaredOnly(root, sources))
  caller = os.environ.pop(_WORKING_DIRECTORY, None)
  if caller:
    os.chdir(caller)


def _find(
  name: str, path: Sequence[str]
) -> importlib.machinery.ModuleSpec | None:
  return importlib.machinery.PathFinder.find_spec(name, path)


def _location(spec: importlib.machinery.ModuleSpec) -> str:
  locations = [spec.origin, *(spec.submodule_search_locations or ())]
  return next(filter(None, locations), '')


def _is_editable(finder: object) -> bool:
  """Whether setuptools made the finder, for an editable installation."""
  return getattr(finder, '__module__', '').startswith('__editable__')
