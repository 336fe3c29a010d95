# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The project's Python files, and what each one names.

A module name here is the one that the file is imported by: tests are on the
path by pytest's configuration, so that `tests/tiny_pipeline.py` is
`tiny_pipeline`. The programs in tools/ are not imported, and beside a program
may lie the package of its name: `tools/plan.py` is `tools/plan`.
"""

import ast
import dataclasses
import pathlib
import re
import textwrap

# Directories of importable packages, and those of files beside them.
PACKAGES = ('build_tools', 'lingvo_gpipe', 'model_params', 'tools')
DIRECTORIES = (*PACKAGES, 'tests')

# A registered model, perhaps as a flag's value: module and class.
_MODEL = re.compile(r'(?:--\w+=)?([a-z_]\w*(?:\.[a-z_]\w*)*)\.[A-Z0]\w*')
_MODULE = re.compile(r'[a-z_]\w*(?:\.[a-z_]\w*)+')
# Stands for what an f-string inserts.
_INSERTED = '0'


@dataclasses.dataclass(frozen=True)
class SourceFile:
  """A Python file: `path` from the repository's root, and its module name."""

  path: str
  module: str

  @property
  def directory(self) -> str:
    return self.path.rpartition('/')[0]

  @property
  def is_package(self) -> bool:
    return self.path.endswith('/__init__.py')

  @property
  def is_test(self) -> bool:
    return self.in_tests and self.path.endswith('_test.py')

  @property
  def in_tests(self) -> bool:
    return self.path.startswith('tests/')

  @property
  def is_tool(self) -> bool:
    return self.directory == 'tools' and not self.is_package


@dataclasses.dataclass(frozen=True)
class Import:
  """An imported name.

  Attributes:
    name: a module's full name, followed by what is imported from it.
    is_module: whether all of `name` is a module for sure.
    line: where it is in the file.
    in_string: whether it is in a program in a string, which may fail.
  """

  name: str
  is_module: bool
  line: int
  in_string: bool = False


@dataclasses.dataclass
class Named:
  """What a file names.

  Attributes:
    imports: what it imports, in functions and in programs in strings too.
    modules: strings that may be modules' names.
    models: modules of strings that may be models' names.
    files: strings that may be paths of files.
    runs_as_program: whether it has code for `python -m`.
  """

  imports: list[Import] = dataclasses.field(default_factory=list)
  modules: set[str] = dataclasses.field(default_factory=set)
  models: set[str] = dataclasses.field(default_factory=set)
  files: set[str] = dataclasses.field(default_factory=set)
  runs_as_program: bool = False


def find(root: pathlib.Path) -> list[SourceFile]:
  """All Python files of the project in `root`, sorted by path."""
  paths = [
    path.relative_to(root)
    for directory in DIRECTORIES
    for path in (root / directory).rglob('*.py')
  ]
  sources = [SourceFile(str(p), _module_name(p)) for p in sorted(paths)]
  return [
    dataclasses.replace(source, module=source.path.removesuffix('.py'))
    if source.is_tool
    else source
    for source in sources
  ]


def _module_name(path: pathlib.PurePath) -> str:
  parts = list(path.with_suffix('').parts)
  if parts[0] == 'tests':
    del parts[0]
  if parts[-1] == '__init__':
    del parts[-1]
  return '.'.join(parts)


def scan(text: str, source: SourceFile) -> Named:
  """What the file with contents `text` names.

  Raises:
    SyntaxError: if it is not Python.
  """
  package = source.module
  if not source.is_package:
    package = package.rpartition('.')[0]
  visitor = _Visitor(package)
  visitor.visit(ast.parse(text, source.path))
  return visitor.named


class _Visitor(ast.NodeVisitor):
  """Collects into `named` what a tree names."""

  def __init__(self, package: str) -> None:
    self.named = Named()
    self._package = package

  def visit_Import(self, node: ast.Import) -> None:
    self.named.imports += [
      Import(a.name, True, node.lineno) for a in node.names
    ]

  def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
    base = node.module or ''
    if node.level:
      parts = self._package.split('.')
      parts = parts[: len(parts) - node.level + 1]
      base = '.'.join(parts + ([base] if base else []))
    self.named.imports += [
      Import(f'{base}.{alias.name}', False, node.lineno) for alias in node.names
    ]

  def visit_Module(self, node: ast.Module) -> None:
    self._visit_body(node)

  def visit_ClassDef(self, node: ast.ClassDef) -> None:
    self._visit_body(node)

  def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
    self._visit_body(node)

  def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
    self._visit_body(node)

  def visit_If(self, node: ast.If) -> None:
    test = node.test
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name):
      self.named.runs_as_program |= test.left.id == '__name__'
    self.generic_visit(node)

  def visit_BinOp(self, node: ast.BinOp) -> None:
    # A path: anything / 'directory' / 'file'.
    operands: list[ast.expr] = []
    left: ast.expr = node
    while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
      operands.insert(0, left.right)
      left = left.left
    strings = _trailing_strings(operands)
    self._add_path(strings)
    for operand in operands[: len(operands) - len(strings)]:
      self.visit(operand)
    self.visit(left if operands else node.left)
    if not operands:
      self.visit(node.right)

  def visit_Call(self, node: ast.Call) -> None:
    # A path: join(anything, 'directory', 'file').
    self._add_path(_trailing_strings(node.args))
    self.generic_visit(node)

  def visit_Constant(self, node: ast.Constant) -> None:
    if isinstance(node.value, str):
      self._add_text(node.value)

  def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
    parts = []
    for value in node.values:
      if isinstance(value, ast.FormattedValue):
        parts.append(_INSERTED)
        self.visit(value.value)
      else:
        assert isinstance(value, ast.Constant)
        parts.append(str(value.value))
    self._add_text(''.join(parts))

  def _visit_body(
    self,
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
  ) -> None:
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    for child in ast.iter_child_nodes(node):
      if child is not docstring:
        self.visit(child)

  def _add_text(self, text: str) -> None:
    if 'import ' in text:
      self._add_program(text)
    if _MODULE.fullmatch(text):
      self.named.modules.add(text)
    model = _MODEL.fullmatch(text)
    if model:
      self.named.models.add(model[1])
    self._add_path([text])

  def _add_program(self, text: str) -> None:
    try:
      tree = ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError):
      return  # A sentence, or a string with a null.
    inner = _Visitor(self._package)
    inner.visit(tree)
    self.named.imports += [
      dataclasses.replace(imported, in_string=True)
      for imported in inner.named.imports
    ]

  def _add_path(self, parts: list[str]) -> None:
    path = '/'.join(parts)
    if path and '\n' not in path and not path.startswith('/'):
      self.named.files.add(path)


def _trailing_strings(nodes: list[ast.expr]) -> list[str]:
  strings: list[str] = []
  for node in reversed(nodes):
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
      break
    strings.insert(0, node.value)
  return strings
