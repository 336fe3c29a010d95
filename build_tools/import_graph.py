# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which of the project's modules needs which.

A module needs what it imports, and the `__init__.py` of each package that it
lies in. A package whose `__init__.py` imports modules of the package so needs
what needs it, and Bazel's targets must not go in circles:

                   imports
    package  ----------------->  module     The target of the module gets the
     (init)  <- - - - - - - - -             file `__init__.py`, and not what
                lies in it                  it imports.

`ImportGraph.dependencies` leaves out such steps from a module up to its
package, and has whoever uses the module from outside depend on the package.
"""

import fnmatch
import pathlib
from collections.abc import Iterable, Mapping

from build_tools import graphs, source_files
from build_tools.source_files import SourceFile

# After a package's name: its `__init__.py`, without what that imports.
INIT_ONLY = '.__init__'

# What makes a test slow to start.
_HEAVY = {'lingvo', 'tensorflow', 'tensorflow_datasets', 'tensorflow_text'}

# Names modules without loading them.
_TABLES = {'build_tools/declarations.py'}


class BuildError(Exception):
  """The sources or the declarations do not fit together."""


class ImportGraph:
  """The modules of the project.

  Attributes:
    sources: files by module name.
    named: what each one names, by module name.
    dependencies: the modules that the target of each module names, where
      `INIT_ONLY` may follow a package's name.
    circles: modules that need each other, sorted, by each one's name; a module
      that needs none that needs it is not there.
  """

  def __init__(
    self, root: pathlib.Path, loads: Mapping[str, Iterable[str]]
  ) -> None:
    """Reads the files.

    Args:
      root: the repository.
      loads: as `declarations.LOADS`.

    Raises:
      BuildError: if a file is not Python, if two have one module name, if a
        module of the project is imported or is in `loads` that is not there,
        or if modules need each other.
    """
    self.sources: dict[str, SourceFile] = {}
    self.named: dict[str, source_files.Named] = {}
    for source in source_files.find(root):
      self._add(source, root)
    self._imports = {m: self._find_imports(m) for m in self.sources}
    self._needs = dict(self._imports)
    for module, patterns in loads.items():
      for pattern in (module, *patterns):
        if not self.matching(pattern):
          raise BuildError(f'LOADS: there is no module {pattern}')
      loaded = {
        m
        for pattern in patterns
        for m in self.matching(pattern)
        if self._sees(self.sources[module], m)
      }
      self._needs[module] = self._imports[module] | loaded - {module}
    self._component = graphs.components(
      {m: {*self._needs[m], *self._packages_of(m)} for m in self.sources}
    )
    self.dependencies = {m: self._find_dependencies(m) for m in self.sources}
    self.circles = self._find_circles()

  def reached_from(self, module: str) -> set[str]:
    """The modules that `module` needs, itself included."""
    return graphs.reach(
      [module], lambda m: {*self._needs[m], *self._packages_of(m)}
    )

  def is_heavy(self, module: str) -> bool:
    """Whether `module`, or what it imports, imports TensorFlow or Lingvo.

    What is loaded by names alone does not count.
    """
    reached = graphs.reach(
      [module], lambda m: {*self._imports[m], *self._packages_of(m)}
    )
    return any(
      imported.name.partition('.')[0] in _HEAVY
      for m in reached
      for imported in self.named[m].imports
    )

  def matching(self, pattern: str) -> list[str]:
    """The modules whose names match, where * stands for anything."""
    return fnmatch.filter(self.sources, pattern)

  def _add(self, source: SourceFile, root: pathlib.Path) -> None:
    other = self.sources.setdefault(source.module, source)
    if other is not source:
      raise BuildError(
        f'{other.path} and {source.path} are both module {source.module}: '
        'rename one of them'
      )
    try:
      text = (root / source.path).read_text(encoding='utf-8')
      self.named[source.module] = source_files.scan(text, source)
    except SyntaxError as error:
      raise BuildError(f'{source.path} is not Python: {error}') from error

  def _find_imports(self, module: str) -> set[str]:
    source, named = self.sources[module], self.named[module]
    found = {self._resolve(source, imported) for imported in named.imports}
    if source.path in _TABLES:
      return {m for m in found if m}
    names = [*named.modules, *named.models]
    names += [f'model_params.{name}' for name in named.models]
    if source.in_tests:
      names += [
        path.removesuffix('.py')
        for path in named.files
        if path.startswith('tools/') and path.endswith('.py')
      ]
    found |= {name for name in names if self._sees(source, name)}
    if source.is_test:
      found |= self._conftests(source)
    return {m for m in found if m} - {module}

  def _conftests(self, test: SourceFile) -> set[str]:
    """What pytest imports before the test."""
    parents = pathlib.PurePosixPath(test.path).parents
    paths = {str(parent / 'conftest.py') for parent in parents}
    return {m for m, source in self.sources.items() if source.path in paths}

  def _sees(self, source: SourceFile, name: str) -> bool:
    """Whether `name` is a module that `source` can import."""
    there = self.sources.get(name)
    sees_tests = source.in_tests or source.is_tool
    return bool(there and (sees_tests or not there.in_tests))

  def _resolve(
    self, source: SourceFile, imported: source_files.Import
  ) -> str | None:
    """The module that is imported, None if it is none of the project's."""
    name = imported.name
    if self._sees(source, name):
      return name
    if not imported.is_module:
      name = name.rpartition('.')[0]
      if self._sees(source, name):
        return name
    ours = name.partition('.')[0] in source_files.PACKAGES
    if ours and not imported.in_string:
      raise BuildError(
        f'{source.path}:{imported.line} imports {name}, which is not there'
      )
    return None

  def _packages_of(self, module: str) -> list[str]:
    """The packages that `module` lies in, the innermost first."""
    if self.sources[module].in_tests:
      return []
    parts = module.split('.')[:-1]
    names = ['.'.join(parts[:n]) for n in range(len(parts), 0, -1)]
    return [name for name in names if name in self.sources]

  def _find_dependencies(self, module: str) -> set[str]:
    own = self._component[module]
    result: set[str] = set()
    for package in self._packages_of(module):
      if package not in own:
        result |= self._from_outside(package)
        break
      result.add(package + INIT_ONLY)
    result |= self._needs_inside(module)
    for needed in self._needs[module] - own:
      result |= self._from_outside(needed)
    return result

  def _find_circles(self) -> dict[str, list[str]]:
    found = graphs.components(self.dependencies)
    circles = {m: sorted(ms) for m, ms in found.items() if len(ms) > 1}
    for members in circles.values():
      if len({self.sources[m].directory for m in members}) > 1:
        raise BuildError(
          'modules of different directories need each other: '
          + ', '.join(members)
        )
    return circles

  def _needs_inside(self, module: str) -> set[str]:
    """What `module` needs of its component but the packages it lies in."""
    needs = self._needs[module] & self._component[module]
    return needs.difference(self._packages_of(module))

  def _from_outside(self, module: str) -> set[str]:
    """`module`, and the packages whose `__init__.py` it brings."""
    result = {module}
    for package in sorted(self._component[module]):
      if self.sources[package].is_package and len(self._component[module]) > 1:
        result = {
          m
          for m in result
          if m == module or m not in graphs.reach([package], self._needs_inside)
        }
        if package not in graphs.reach(result, self._needs_inside):
          result.add(package)
    return result
