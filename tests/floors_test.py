# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Imports go down the floors that docs/engine.md shows, and in no circle.

A room is a folder of lingvo_gpipe/, or a file at its top; model_params/ is one
as well. Imports in functions count.
"""

import ast
import graphlib
import importlib.util
import pathlib
import re
from collections.abc import Iterable

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'engine.md'
_PACKAGES = ('lingvo_gpipe', 'model_params')

# What the floors that know less than all do not import.
_UNKNOWN = {1: {'lingvo', 'tensorflow'}, 2: {'lingvo'}}

Edges = set[tuple[str, str]]


def floors(page: str) -> dict[str, int]:
  """The floor of each room, by the table in the page."""
  rows = re.findall(r'^\| (\d+) \|[^|]*\|([^|]*)\|', page, re.MULTILINE)
  return {
    room: int(floor)
    for floor, rooms in rows
    for room in re.findall(r'`([^`]+)`', rooms)
  }


def room_of(file: str) -> str:
  """'pipeline/' for lingvo_gpipe/pipeline/seeds.py, 'trainer.py', ..."""
  package, first, *rest = file.split('/')
  if package != 'lingvo_gpipe':
    return f'{package}/'
  return f'{first}/' if rest else first


def imported(root: pathlib.Path, file: str) -> list[str]:
  """The full names that a file imports, functions' imports with them."""
  names = []
  package = file.rpartition('/')[0].replace('/', '.')
  text = (root / file).read_text(encoding='utf-8')
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      dots = '.' * node.level + (node.module or '')
      base = importlib.util.resolve_name(dots, package)
      names += [f'{base}.{alias.name}' for alias in node.names]
  return names


def import_edges(root: pathlib.Path) -> tuple[set[str], Edges]:
  """The Python files below `root`, and their imports of each other."""
  paths = [p for package in _PACKAGES for p in root.glob(f'{package}/**/*.py')]
  files = {str(path.relative_to(root)) for path in paths}
  edges = set()
  for file in files:
    for name in imported(root, file):
      target = _file_of(name, files)
      if target and target != file:
        edges.add((file, target))
  return files, edges


def _file_of(name: str, files: set[str]) -> str | None:
  """The file that defines a module, or what is imported from one."""
  while name:
    path = name.replace('.', '/')
    for file in (f'{path}.py', f'{path}/__init__.py'):
      if file in files:
        return file
    name = name.rpartition('.')[0]
  return None


def broken_rules(edges: Edges, floor_of: dict[str, int]) -> list[str]:
  """What is wrong with the imports, in words."""
  wrong = []
  between = {
    (file, target) for file, target in edges if room_of(file) != room_of(target)
  }
  for file, target in sorted(between):
    here, there = (floor_of[room_of(path)] for path in (file, target))
    if here < there:
      wrong.append(f'{file} (floor {here}) imports {target} (floor {there})')
  rooms = {(room_of(file), room_of(target)) for file, target in between}
  for graph in (rooms, edges):
    circle = _circle(graph)
    if circle:
      wrong.append(f'a circle: {" -> ".join(circle)}')
  return wrong


def _circle(edges: Iterable[tuple[str, str]]) -> list[str]:
  sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
  for start, end in sorted(edges):
    sorter.add(end, start)
  try:
    sorter.prepare()
  except graphlib.CycleError as error:
    return list(error.args[1])
  return []


@pytest.fixture(scope='module')
def floor_of():
  return floors(PAGE.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def files_and_edges():
  return import_edges(ROOT)


def test_each_room_has_a_floor(floor_of, files_and_edges):
  rooms = {room_of(file) for file in files_and_edges[0]}
  assert rooms == set(floor_of), 'rooms, and those of the table in engine.md'


def test_imports_go_down_and_in_no_circle(floor_of, files_and_edges):
  wrong = broken_rules(files_and_edges[1], floor_of)
  assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize(('floor', 'unknown'), _UNKNOWN.items())
def test_low_floors_know_less(floor_of, files_and_edges, floor, unknown):
  for file in files_and_edges[0]:
    if floor_of[room_of(file)] == floor:
      tops = {name.partition('.')[0] for name in imported(ROOT, file)}
      assert not tops & unknown, file


_PAGE = """
| floor | what | where | knows |
| --- | --- | --- | --- |
| 2 | high | `high/`, `top.py` | all |
| 1 | low | `low/`, `base.py` | nothing |
"""


@pytest.mark.parametrize(
  ('file', 'text', 'said'),
  [
    (
      'low/a.py',
      'def f():\n  from lingvo_gpipe.high import c\n',
      'lingvo_gpipe/low/a.py (floor 1) imports lingvo_gpipe/high/c.py',
    ),
    ('base.py', 'import lingvo_gpipe.low.a\n', 'a circle: low/ -> base.py'),
    (
      'low/b.py',
      'from lingvo_gpipe.low.a import x\n',
      'a circle: lingvo_gpipe/low/a.py -> lingvo_gpipe/low/b.py',
    ),
  ],
)
def test_an_import_that_breaks_a_rule_is_found(tmp_path, file, text, said):
  package = tmp_path / 'lingvo_gpipe'
  for name, contents in {
    'base.py': '',
    'top.py': 'from lingvo_gpipe.high.c import x\nimport os\n',
    'high/c.py': 'from .. import base\nimport lingvo_gpipe.low.a\n',
    'low/a.py': 'from lingvo_gpipe import base\nfrom lingvo_gpipe.low import b',
    'low/b.py': '',
  }.items():
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_text(contents)
  floor_of = floors(_PAGE)
  assert broken_rules(import_edges(tmp_path)[1], floor_of) == []
  with (package / file).open('a') as out:
    out.write('\n' + text)
  wrong = broken_rules(import_edges(tmp_path)[1], floor_of)
  assert any(line.startswith(said) for line in wrong), wrong
