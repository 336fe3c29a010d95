# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The flags of a command, known before what defines them is imported.

Most flags are defined in modules that import TensorFlow, which takes seconds.
So their definitions are read off the sources, and made again where nobody else
sees them:

    lingvo/trainer.py:   tf.flags.DEFINE_integer('worker_split_size', 1, ...)
                            '--> the same in a FlagValues of its own

A flag that is not found so may be one of TensorFlow's, or of the model's module
and what that imports. These are searched only then, and what they may define is
left for later.
"""

import ast
import copy
import importlib.util
import pathlib
import re
import sys
from collections.abc import Iterator
from importlib import machinery

from absl import flags

from lingvo_gpipe.training import trainer_flags  # noqa: F401  (defines flags)

# Where a model's module is looked for before the Python path.
_MODEL_PACKAGES = ('model_params', 'lingvo_gpipe.model_params')
# What is searched as a whole for a flag.
_SEARCHED = ('absl', 'lingvo', 'tensorflow')
_NOT_FOLLOWED = {
  *sys.stdlib_module_names,
  *_SEARCHED,
  'lingvo_gpipe',
  'numpy',
}
_DEFINITION = r'DEFINE_\w+\(\s*[\'"]%s[\'"]'
# What such a module imports or defines can't be read off it.
_DYNAMIC = re.compile(r'importlib|pkgutil|__import__|\bexec\(')


def read(argv: list[str]) -> flags.FlagValues | None:
  """The flags that a command line may have, to parse it with.

  Args:
    argv: The command line, from the program's name on.

  Returns:
    The flags, unparsed; None if only the imports will tell. Those of
    `flags.FLAGS` are among them as copies: this process may go on with its own.
  """
  values = flags.FlagValues()  # type: ignore[no-untyped-call]
  for name in flags.FLAGS:
    if name == flags.FLAGS[name].name:  # Not its short name.
      values[name] = copy.deepcopy(flags.FLAGS[name])
  if 'lingvo.trainer' not in sys.modules:
    for call in _definitions():
      _define(call, values)
  try:
    values.unparse_flags()
    values(argv)
  except flags.UnrecognizedFlagError as error:
    # What is known has been parsed.
    if _may_be_defined(error.flagname, values['model'].value or ''):
      return None
  except (flags.Error, ValueError):
    pass  # The caller says that.
  finally:
    values.unparse_flags()
  return values


def _definitions() -> Iterator[ast.Call]:
  lingvo, own = _package('lingvo'), _package('lingvo_gpipe')
  for directory in (lingvo, lingvo / 'core', own / 'training', own / 'tracing'):
    for file in sorted(directory.glob('*.py')):
      source = file.read_text(encoding='utf-8')
      if not re.search(_DEFINITION % r'\w+', source):
        continue
      for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _kind(node):
          yield node


def _kind(call: ast.Call) -> str:
  """'DEFINE_string' or the like; '' if `call` defines no flag."""
  name = call.func.attr if isinstance(call.func, ast.Attribute) else ''
  return name if name.startswith('DEFINE_') else ''


def _define(call: ast.Call, values: flags.FlagValues) -> None:
  """Defines a flag as `call` does, if it isn't there."""
  if ast.literal_eval(call.args[0]) in values:
    return
  args = map(ast.literal_eval, call.args)
  kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
  getattr(flags, _kind(call))(*args, **kwargs, flag_values=values)


def _package(name: str) -> pathlib.Path:
  """The directory of a package, which isn't imported for that."""
  spec = importlib.util.find_spec(name)
  assert spec and spec.submodule_search_locations, name
  return pathlib.Path(spec.submodule_search_locations[0])


# -- Flags that are not among them.


def _may_be_defined(flag: str, model: str) -> bool:
  """Whether a module that is going to be imported may define `flag`."""
  names = re.escape(flag)
  if flag.startswith('no'):  # As a boolean flag is negated.
    names = f'(?:{names}|{re.escape(flag[2:])})'
  definition = re.compile(_DEFINITION % names)
  if any(
    definition.search(file.read_text(encoding='utf-8', errors='replace'))
    for package in _SEARCHED
    for file in _package(package).rglob('*.py')
  ):
    return True
  mention = re.compile(rf'[\'"]{names}[\'"]')
  try:
    return any(
      mention.search(source) or _DYNAMIC.search(source)
      for source in _sources_of(model)
    )
  except SyntaxError:
    return True  # The import says that, and where.


def _sources_of(model: str) -> Iterator[str]:
  """The sources of a model's module and of what it imports, one by one."""
  parts = model.split('.')[:-1]
  if not parts:
    return
  left = ['.'.join([package, *parts]) for package in _MODEL_PACKAGES]
  # Lingvo also looks for a package 'params' on the way.
  for end in range(len(parts)):
    left.append('.'.join([*parts[: end + 1], 'params', *parts[end + 1 :]]))
  left.append('.'.join(parts))
  seen = set(left)
  while left:
    module = left.pop()
    spec = _find(module)
    if spec is None or not (spec.origin or '').endswith('.py'):
      continue
    source = pathlib.Path(str(spec.origin)).read_text(encoding='utf-8')
    yield source
    package = spec.name if spec.submodule_search_locations else spec.parent
    for name in _imports(ast.parse(source), package or ''):
      if name not in seen and name.partition('.')[0] not in _NOT_FOLLOWED:
        seen.add(name)
        left.append(name)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
  """Names of what may be modules that `tree` imports, and their packages."""
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = importlib.util.resolve_name(
        '.' * node.level + (node.module or ''), package
      )
      names = [f'{base}.{alias.name}' for alias in node.names]
    for name in names:
      while name:
        yield name
        name = name.rpartition('.')[0]


def _find(module: str) -> machinery.ModuleSpec | None:
  """Where a module is; no package is imported for that."""
  spec, path = None, None
  parts = module.split('.')
  for end in range(len(parts)):
    name = '.'.join(parts[: end + 1])
    specs = (finder.find_spec(name, path) for finder in sys.meta_path)
    spec = next(filter(None, specs), None)
    if spec is None or (
      spec.submodule_search_locations is None and end < len(parts) - 1
    ):
      return None
    path = spec.submodule_search_locations
  return spec
