# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md: every command, every Param of the layers.

Layers, models and commands are found, so that none can be forgotten. Run it
again when one of them has changed; a test says when.
"""

import importlib
import inspect
import pathlib
import pkgutil
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from tools.common import command
from tools.docs import command_options

_ROOT = pathlib.Path(__file__).absolute().parents[2]
PAGE = _ROOT / 'docs' / 'reference.md'

_INTRODUCTION = """\
# Reference

Every command (`--help` names its flags), every registered model, and every
Param that the layers define. This page is generated: `tools/reference.py`
writes it.
"""

# Commands without a console script or a file in tools/.
_MODULES = ('trainer', 'first_run', 'launch_local', 'generate', 'check')
_LAYER_MODULES = (
  'sequential_layer',
  'pipelining_layer',
  'pipeline.feature_extraction_layer',
  'named_layers',
)
# Of a Param that has another default than in the class before.
_CHANGED = 'Another default.'
_LONG = 60
_LAYER_PACKAGES = ('models', 'inputs')


def page() -> str:
  """The page's text."""
  parts = [_INTRODUCTION]
  parts += ['## Commands\n', _commands()]
  parts += ['## Models\n', _models()]
  parts += ['## Params\n', *_param_sections()]
  return '\n'.join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  def line(cells: Sequence[str]) -> str:
    texts = (' '.join(cell.split()).replace('|', '\\|') for cell in cells)
    return '| ' + ' | '.join(texts) + ' |'

  rule = '|' + ' --- |' * len(header)
  return '\n'.join([line(header), rule, *map(line, rows)]) + '\n'


def _code(text: str) -> str:
  return f'`{text}`' if text else ''


# -- Commands.


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
  """Yields each command: how to call it, and its `main`."""
  for name in _MODULES:
    module = importlib.import_module(f'lingvo_gpipe.{name}')
    yield f'python -m lingvo_gpipe.{name}', module.main
  for file in sorted((_ROOT / 'tools').glob('[a-z]*.py')):
    yield f'tools/{file.name}', _main_of(file)


def _main_of(file: pathlib.Path) -> Callable[..., Any]:
  """The `main` of a tool: its own, or that of the one module it imports."""
  path = list(sys.path)
  try:
    names = runpy.run_path(str(file), run_name=file.stem)
  finally:
    sys.path[:] = path
  if 'main' in names:
    own: Callable[..., Any] = names['main']
    return own
  # Modules of the standard library may have a main, too.
  found: list[Callable[..., Any]] = [
    value.main
    for value in names.values()
    if isinstance(value, ModuleType)
    and value.__name__.startswith(('lingvo_gpipe.', 'tools.'))
    and hasattr(value, 'main')
  ]
  assert len(found) == 1, f'{file} has not one main but {found}.'
  return found[0]


def _commands() -> str:
  scripts = _console_scripts()
  rows = []
  for call, main in commands():
    script = scripts.get(f'{main.__module__}:main', '')
    doc = command_options.inspect(main).doc.strip().split('\n\n')[0]
    rows.append([_code(call), _code(script), doc])
  return _table(['command', 'installed as', 'what'], rows)


def _console_scripts() -> dict[str, str]:
  """{'module:main': the script's name}, from setup.py."""
  text = (_ROOT / 'setup.py').read_text(encoding='utf-8')
  found = re.findall(r"'(\w+) = ([\w.]+):\w+'", text)
  return {f'{module}:main': name for name, module in found}


# -- Models.


def _models() -> str:
  from lingvo import model_registry

  from lingvo_gpipe.training import model_lookup

  model_lookup.known_models()  # Imports them.
  rows = []
  for registered in model_registry.GetAllRegisteredClasses().values():
    source = registered.__mro__[1]  # Lingvo wraps what it registers.
    package, _, module = source.__module__.partition('.')
    if package == 'model_params':
      name = f'{module}.{source.__name__}'
      rows.append([_code(name), _first_paragraph(source)])
  return _table(['--model', 'what'], sorted(rows))


# -- Params.


def _modules() -> Iterator[ModuleType]:
  for name in _LAYER_MODULES:
    yield importlib.import_module(f'lingvo_gpipe.{name}')
  for package in _LAYER_PACKAGES:
    parent = importlib.import_module(f'lingvo_gpipe.{package}')
    for info in pkgutil.iter_modules(parent.__path__):
      yield importlib.import_module(f'{parent.__name__}.{info.name}')


def _param_sections() -> Iterator[str]:
  for module in _modules():
    sections = [
      section
      for name, value in vars(module).items()
      if not name.startswith('_')
      and getattr(value, '__module__', '') == module.__name__
      for section in _param_section(name, value)
    ]
    if sections:
      yield from (f'### {module.__name__}\n', *sections)


def _param_section(name: str, value: Any) -> Iterator[str]:
  """Of a layer, what it defines or changes; of a function, what it returns."""
  inherited: dict[str, tuple[str, str]] = {}
  base = ''
  if inspect.isclass(value) and hasattr(value, 'Params'):
    found = _params(value.Params())
    parent = next(base for base in value.__mro__[1:] if hasattr(base, 'Params'))
    inherited = _params(parent.Params())
    ours = parent.__module__.startswith('lingvo_gpipe.')
    base = parent.__name__ if ours else f'{parent.__module__}.{parent.__name__}'
  elif inspect.isfunction(value) and name.endswith('Params'):
    found = _params(value())
  else:
    return
  yield f'#### {name}\n'
  yield f'{_first_paragraph(value)}\n'
  rows = [
    [_code(param), _code(default), text if param not in inherited else _CHANGED]
    for param, (default, text) in found.items()
    if param not in inherited or inherited[param][0] != default
  ]
  if base:
    yield f'{"Also those of" if rows else "Those of"} `{base}`.\n'
  if rows:
    yield _table(['Param', 'default', 'what'], rows)


def _params(params: Any) -> dict[str, tuple[str, str]]:
  """Default and text of each."""
  return {
    name: (_default(value), params._params[name]._description)
    for name, value in params.IterParams()
  }


def _default(value: Any) -> str:
  """A default as Python text; of what is long, what it is."""
  # Commands are listed without them.
  import lingvo.compat as tf
  from lingvo.core import hyperparams

  if isinstance(value, hyperparams.InstantiableParams):
    return f'{value.cls.__name__}.Params()'
  if isinstance(value, hyperparams.Params):
    return 'Params'
  if isinstance(value, tf.DType):
    return f'tf.{value.name}'
  if isinstance(value, str | int | float | bool | type(None)):
    return repr(value)
  text = repr(value) if isinstance(value, list | tuple | dict) else ''
  return text if 0 < len(text) <= _LONG else f'a {type(value).__name__}'


def _first_paragraph(value: Any) -> str:
  doc = inspect.cleandoc(value.__doc__ or '')
  return ' '.join(doc.split('\n\n')[0].split())


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = command.Parser(
    'tools/reference.py', __doc__, '  tools/reference.py\n'
  )
  parser.add_argument(
    '--check',
    action='store_true',
    help='write nothing; exit with status 1 if the page is not current',
  )
  args = parser.parse_args(argv)
  new = page()
  if not args.check:
    PAGE.write_text(new, encoding='utf-8')
  elif PAGE.read_text(encoding='utf-8') != new:
    print(f'{PAGE} is not current; run tools/reference.py.', file=sys.stderr)
    return 1
  return 0
