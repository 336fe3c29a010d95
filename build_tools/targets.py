# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The targets of the BUILD files: a library a module, a test a test file.

  lingvo_gpipe/a/b.py         //lingvo_gpipe/a:b
  lingvo_gpipe/a/__init__.py  //lingvo_gpipe/a (//lingvo_gpipe/a:a_package if
                              there is an a/a.py), and //lingvo_gpipe/a:__init__
                              with the file alone, not what it imports
  tests/a/b_test.py           //tests/a:b_test
  tools/b.py                  //tools:b, a program
  console script, or module of lingvo_gpipe that python -m runs
                              //:name, a program

A tool or a test that others import has a library NAME_lib as well.
"""

import os
import pathlib
from collections.abc import Collection, Iterable, Mapping

from build_tools import commands, declarations, starlark
from build_tools.import_graph import INIT_ONLY, BuildError, ImportGraph
from build_tools.source_files import SourceFile
from build_tools.starlark import Rule

# Files that the macros in build_tools/*.bzl name.
_FILES_OF_MACROS = ('pyproject.toml', 'build_tools/pytest_main.py')

_EVERY_MODULE = 'every_module'

_COMMENT = """\
# Written from what the files import. Do not edit it; after a change run
#   python -m build_tools.build_files
"""


def build_files(
  root: pathlib.Path,
  loads: Mapping[str, list[str]] = declarations.LOADS,
  loads_any: Mapping[str, str] = declarations.LOADS_ANY,
  reads: Mapping[str, list[str]] = declarations.READS,
  test_attributes: Mapping[
    str, Mapping[str, starlark.Value]
  ] = declarations.TEST_ATTRIBUTES,
) -> dict[str, str]:
  """The text of each BUILD file, by its path in the repository `root`.

  The tables are those of `declarations`.

  Raises:
    BuildError: if the sources and the tables do not fit together.
  """
  for file in test_attributes:
    if not (root / file).is_file():
      raise BuildError(f'TEST_ATTRIBUTES: there is no {file}')
  graph = ImportGraph(root, loads)
  files = _Files(root, graph, reads)
  targets = _Targets(graph, files, loads_any, test_attributes)
  rules = {package: targets.of_package(package) for package in files.packages}
  rules[''] += [
    Rule('declared_only', {'name': 'sitecustomize'}),
    *targets.commands((root / 'setup.py').read_text(encoding='utf-8')),
  ]
  for file in _FILES_OF_MACROS:
    files.label(file)
  result = {}
  for package, contents in sorted(rules.items()):
    _check_names(package, contents)
    exported = files.exported.get(package)
    if exported:
      contents = [Rule('exports_files', {'srcs': exported}), *contents]
    path = f'{package}/BUILD' if package else 'BUILD'
    result[path] = starlark.build_file(package, contents, _COMMENT)
  return result


class _Files:
  """Files that are read, as labels.

  Attributes:
    packages: directories that have a BUILD file.
    exported: the files of each of them that there are labels of.
  """

  def __init__(
    self,
    root: pathlib.Path,
    graph: ImportGraph,
    reads: Mapping[str, list[str]],
  ) -> None:
    self._root = root
    self._graph = graph
    self._reads = reads
    for file in reads:
      if not (root / file).is_file():
        raise BuildError(f'READS: there is no {file}')
    sources = graph.sources.values()
    self._python = {source.path for source in sources}
    self.packages = {source.directory for source in sources} | {''}
    self.exported: dict[str, set[str]] = {}

  def label(self, file: str) -> str:
    """The label of a file, which other packages may use from now on."""
    package = file
    while package not in self.packages:
      package = package.rpartition('/')[0]
    name = file.removeprefix(package).removeprefix('/')
    self.exported.setdefault(package, set()).add(name)
    return f'//{package}:{name}'

  def read_by(self, source: SourceFile) -> set[str]:
    """The labels of the files that a Python file reads."""
    found = set()
    for name in self._graph.named[source.module].files:
      for path in (name, f'{source.directory}/{name}', f'docs/{name}'):
        # Modules are dependencies, BUILD files are Bazel's, and nobody means
        # the repository's parents.
        if (
          path not in self._python
          and pathlib.PurePath(path).name != 'BUILD'
          and '..' not in path.split('/')
          and os.path.isfile(self._root / path)
        ):
          found.add(os.path.normpath(path))
    for pattern in self._reads.get(source.path, ()):
      paths = [p for p in self._root.glob(pattern) if p.is_file()]
      if not paths:
        raise BuildError(f'READS: there is no {pattern}')
      found |= {str(path.relative_to(self._root)) for path in paths}
    return {self.label(path) for path in found}


class _Targets:
  """Rules for the modules of a graph."""

  def __init__(
    self,
    graph: ImportGraph,
    files: _Files,
    loads_any: Mapping[str, str],
    test_attributes: Mapping[str, Mapping[str, starlark.Value]],
  ) -> None:
    self._graph = graph
    self._files = files
    self._loads_any = loads_any
    self._test_attributes = test_attributes
    # What targets of others name.
    self._used = set().union(*graph.dependencies.values())

  def of_package(self, package: str) -> list[Rule]:
    """The targets of the Python files in a directory."""
    rules = []
    if package in self._loads_any.values():
      rules.append(self._every_module(package))
    for source in self._graph.sources.values():
      if source.directory == package:
        rules += self._of_file(source)
    return rules

  def commands(self, setup: str) -> list[Rule]:
    """A program for each command of lingvo_gpipe; `setup` is setup.py."""
    programs = {}
    for module, source in self._graph.sources.items():
      if (
        source.directory == 'lingvo_gpipe'
        and self._graph.named[module].runs_as_program
      ):
        name = module.rpartition('.')[2]
        programs[name] = self._program(name, module, runs=module)
    for name, call in commands.console_scripts(setup).items():
      module = call.partition(':')[0]
      if module not in self._graph.sources:
        raise BuildError(f'setup.py names {call}, and there is no {module}')
      programs[name] = self._program(name, module, calls=call)
    return [programs[name] for name in sorted(programs)]

  def _of_file(self, source: SourceFile) -> list[Rule]:
    module = source.module
    rules = []
    if not (source.is_test or source.is_tool):
      rules.append(self._library(source, self._name(source)))
    elif module in self._used:
      rules.append(self._library(source, f'{self._name(source)}_lib'))
    if module + INIT_ONLY in self._used:
      init = {'name': '__init__', 'srcs': ['__init__.py']}
      rules.append(Rule('py_library', init))
    if source.is_test:
      rules.append(self._test(source))
    if source.is_tool:
      rules.append(self._tool(source))
    return rules

  def _library(self, source: SourceFile, name: str) -> Rule:
    # Modules that need each other have one target with them all; the others'
    # targets lead to it.
    circle = self._graph.circles.get(source.module, [source.module])
    if source.module != circle[0]:
      return Rule(
        'py_library', {'name': name, 'deps': self._labels(circle[:1])}
      )
    members = [self._graph.sources[module] for module in circle]
    deps = set().union(*(self._graph.dependencies[m] for m in circle))
    return Rule(
      'py_library',
      {
        'name': name,
        'srcs': [pathlib.PurePath(member.path).name for member in members],
        'data': set().union(*(self._files.read_by(m) for m in members)),
        'deps': self._labels(deps.difference(circle)),
      },
    )

  def _test(self, source: SourceFile) -> Rule:
    attributes: dict[str, starlark.Value] = {
      'name': self._name(source),
      'src': pathlib.PurePath(source.path).name,
      'data': self._files.read_by(source),
      'deps': self._labels(self._graph.dependencies[source.module]),
      'size': 'small',
    }
    if self._graph.is_heavy(source.module):
      attributes.update(size='medium', tags=['tensorflow'])
    attributes.update(self._test_attributes.get(source.path, {}))
    return Rule('pytest_test', attributes)

  def _tool(self, source: SourceFile) -> Rule:
    dependencies = self._graph.dependencies[source.module]
    return Rule(
      'python_program',
      {
        'name': self._name(source),
        'main': pathlib.PurePath(source.path).name,
        'data': self._files.read_by(source),
        'deps': self._labels(dependencies) | self._any(source.module),
      },
    )

  def _program(self, name: str, module: str, **what: str) -> Rule:
    deps = self._labels([module]) | self._any(module)
    return Rule('python_program', {'name': name, 'deps': deps, **what})

  def _any(self, module: str) -> set[str]:
    """Labels of what a program with `module` can be asked to import."""
    reached = self._graph.reached_from(module)
    return {
      f'//{package}:{_EVERY_MODULE}'
      for loader, package in self._loads_any.items()
      if loader in reached
    }

  def _every_module(self, package: str) -> Rule:
    modules = self._graph.matching(f'{package}.*')
    ours = [m for m in modules if not self._graph.sources[m].in_tests]
    return Rule(
      'py_library', {'name': _EVERY_MODULE, 'deps': self._labels(ours)}
    )

  def _labels(self, modules: Iterable[str]) -> set[str]:
    return {self._label(module) for module in modules}

  def _name(self, source: SourceFile) -> str:
    path = pathlib.PurePath(source.path)
    if not source.is_package:
      return path.stem
    name = path.parent.name
    taken = f'{source.module}.{name}' in self._graph.sources
    return f'{name}_package' if taken else name

  def _label(self, module: str) -> str:
    """The label of a module's library."""
    if module.endswith(INIT_ONLY):
      source = self._graph.sources[module.removesuffix(INIT_ONLY)]
      return f'//{source.directory}:__init__'
    source = self._graph.sources[module]
    end = '_lib' if source.is_test or source.is_tool else ''
    return f'//{source.directory}:{self._name(source)}{end}'


def _check_names(package: str, rules: Collection[Rule]) -> None:
  names = [rule.name for rule in rules]
  for name in names:
    if names.count(name) > 1:
      raise BuildError(
        f'two targets would be //{package}:{name}: rename a module or a command'
      )
