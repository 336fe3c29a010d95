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

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'engine.md'
_PACKAGES = ('lingvo_gpipe', 'model_params')

# What the floors that know less than all do not import.
_UNKNOWN = {1: {'lingvo', 'tensorflow'}, 2: {'lingvo'}}

Edges = set[tuple[str, str]]


def room_of(file: str) -> str:
  """'pipeline/' for lingvo_gpipe/pipeline/seeds.py, 'trainer.py', ..."""
  package, first, *rest = file.split('/')
  if package != 'lingvo_gpipe':
    return f'{package}/'
  return f'{first}/' if rest else first


def imported(file: str) -> list[str]:
  """The full names that a file imports, functions' imports with them."""
  names = []
  package = file.rpartition('/')[0].replace('/', '.')
  text = (ROOT / file).read_text(encoding='utf-8')
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      dots = '.' * node.level + (node.module or '')
      base = importlib.util.resolve_name(dots, package)
      names += [f'{base}.{alias.name}' for alias in node.names]
  return names


def _file_of(name: str, files: set[str]) -> str | None:
  """The file that defines a module, or what is imported from one."""
  while name:
    path = name.replace('.', '/')
    for file in (f'{path}.py', f'{path}/__init__.py'):
      if file in files:
        return file
    name = name.rpartition('.')[0]
  return None


def _assert_no_circle(edges: Edges):
  sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
  for start, end in sorted(edges):
    sorter.add(end, start)
  try:
    sorter.prepare()
  except graphlib.CycleError as error:
    pytest.fail(f'a circle: {" -> ".join(error.args[1])}')


@pytest.fixture(scope='module')
def floor_of():
  page = PAGE.read_text(encoding='utf-8')
  rows = re.findall(r'^\| (\d+) \|[^|]*\|([^|]*)\|', page, re.MULTILINE)
  return {
    room: int(floor)
    for floor, rooms in rows
    for room in re.findall(r'`([^`]+)`', rooms)
  }


@pytest.fixture(scope='module')
def files():
  paths = [p for package in _PACKAGES for p in ROOT.glob(f'{package}/**/*.py')]
  return {str(path.relative_to(ROOT)) for path in paths}


@pytest.fixture(scope='module')
def edges(files):
  found = {(f, _file_of(name, files)) for f in files for name in imported(f)}
  return {(f, target) for f, target in found if target and target != f}


def test_each_room_has_a_floor(floor_of, files):
  rooms = {room_of(file) for file in files}
  assert rooms == set(floor_of), 'rooms, and those of the table in engine.md'


def check_imports(floor_of: dict[str, int], edges: Edges) -> None:
  """Fails if an import goes up, or if imports make a circle."""
  for file, target in edges:
    here, there = (floor_of[room_of(path)] for path in (file, target))
    assert here >= there, (
      f'{file} (floor {here}) imports {target} (floor {there})'
    )
  rooms = {(room_of(file), room_of(target)) for file, target in edges}
  _assert_no_circle({(here, there) for here, there in rooms if here != there})
  _assert_no_circle(edges)


def test_imports_go_down_and_in_no_circle(floor_of, edges):
  check_imports(floor_of, edges)


@pytest.mark.parametrize(
  ('file', 'target', 'said'),
  [
    ('engine/tensors.py', 'training/runners.py', 'imports'),
    ('engine/tensors.py', 'cpu_devices.py', 'a circle'),
    ('schedules/task.py', 'schedules/simulate.py', 'a circle'),
  ],
)
def test_one_wrong_import_is_found(floor_of, edges, file, target, said):
  wrong = (f'lingvo_gpipe/{file}', f'lingvo_gpipe/{target}')
  # The import the other way, which makes a circle of those on one floor.
  back = {wrong[::-1]} if said == 'a circle' else set()
  with pytest.raises((AssertionError, pytest.fail.Exception), match=said):
    check_imports(floor_of, edges | {wrong} | back)


@pytest.mark.parametrize(('floor', 'unknown'), _UNKNOWN.items())
def test_low_floors_know_less(floor_of, files, floor, unknown):
  for file in files:
    if floor_of[room_of(file)] == floor:
      tops = {name.partition('.')[0] for name in imported(file)}
      assert not tops & unknown, file
