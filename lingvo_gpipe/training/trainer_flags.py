# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer's flags: ours, and how all are known without TensorFlow.

Most flags are defined in modules that import TensorFlow, which takes seconds.
So `read` reads their definitions off the sources, and makes them again where
nobody else sees them:

    lingvo/trainer.py:   tf.flags.DEFINE_integer('worker_split_size', 1, ...)
                            '--> the same in a FlagValues of its own

A flag that is not found so may be one of TensorFlow's, or of the model's module
and what that imports. These are searched only then, and what they may define is
left for later.
"""

import ast
import copy
import importlib.util
import modulefinder
import pathlib
import re
import sys
from collections.abc import Iterator

from absl import flags

from lingvo_gpipe import schedules

flags.DEFINE_integer(
  'max_steps',
  None,
  'Train to this step. Default: as the model says.',
  lower_bound=1,
)


def _is_schedule(name: str | None) -> bool:
  if name is not None:
    try:
      schedules.check_name(name)
    except ValueError as error:
      raise flags.ValidationError(str(error)) from error
  return True


flags.DEFINE_integer(
  'micro_batches',
  None,
  'M: the micro-batches that a mini-batch is split into. Default: as the model '
  'says.',
  lower_bound=1,
)
flags.DEFINE_string(
  'schedule',
  None,
  f"Order of the pipeline's tasks: {', '.join(schedules.SCHEDULE_NAMES)}, "
  "file:PATH, or a name that the model's module registers. Default: as the "
  'model says.',
)
flags.register_validator('schedule', _is_schedule)  # type: ignore[no-untyped-call]
flags.DEFINE_enum(
  'recompute',
  None,
  [*schedules.RECOMPUTE_POLICIES, schedules.FIT],
  'Which micro-batches have their forward pass recomputed in the backward '
  'pass, to save memory; fit: none of the layers that --device_memory has '
  'room to keep. Default: as the model says.',
)
flags.DEFINE_string(
  'device_memory',
  None,
  "What a device may hold, such as '8GiB': no cell is cut that needs more. "
  'Default: as the model says.',
)
flags.DEFINE_integer(
  'worker_cpus',
  None,
  'CPU devices of a worker without GPUs and TPUs. Default: with --run_locally, '
  'those of one pipeline (--worker_split_size); with --cluster_spec, 1.',
  lower_bound=1,
)
flags.DEFINE_integer(
  'worker_wait_seconds',
  300,
  'How long to wait at the start for workers of --cluster_spec that have not '
  'started yet.',
  lower_bound=0,
)

# Once these are imported, all flags are defined.
_DEFINE_FLAGS = {'lingvo.trainer', 'lingvo_gpipe.tracing.step_tracer'}
# What is searched as a whole for a flag.
_SEARCHED = ('absl', 'lingvo', 'tensorflow')
_NOT_FOLLOWED = [*sys.stdlib_module_names, *_SEARCHED, 'lingvo_gpipe', 'numpy']
_DEFINITION = r'DEFINE_\w+\(\s*[\'"]%s[\'"]'
# What such a module imports or defines can't be read off it.
_DYNAMIC = re.compile(r'importlib|pkgutil|__import__|\bexec\(')


def read(argv: list[str]) -> flags.FlagValues | None:
  """The flags that a command line may have, to parse it with.

  Returns:
    The flags, unparsed; None if only the imports will tell. Those of
    `flags.FLAGS` are among them as copies: this process may go on with its own.
  """
  values = flags.FlagValues()  # type: ignore[no-untyped-call]
  for name in flags.FLAGS:
    if name == flags.FLAGS[name].name:  # Not its short name.
      values[name] = copy.deepcopy(flags.FLAGS[name])
  if not _DEFINE_FLAGS.issubset(sys.modules):
    for call in _definitions():
      _define(call, values)
  try:
    values.unparse_flags()
    values(argv)
  except flags.UnrecognizedFlagError as error:
    # What is known has been parsed.
    if _may_be_defined(error.flagname, values['model'].value or ''):
      return None
  except flags.IllegalFlagValueError:
    if _may_be_registered(values):
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
  return _is_mentioned(names, model)


def _is_mentioned(names: str, model: str) -> bool:
  """Whether the sources of a model's module may have a text that matches."""
  mention = re.compile(rf'[\'"]{names}[\'"]')
  try:
    return any(
      mention.search(source) or _DYNAMIC.search(source)
      for source in _sources_of(model)
    )
  except SyntaxError:
    return True  # The import says that, and where.


def _may_be_registered(values: flags.FlagValues) -> bool:
  """Whether the model's module may register the schedule that is asked for."""
  name, model = values['schedule'].value, values['model'].value
  if not name or not model or name in schedules.schedule_names():
    return False
  return _is_mentioned(re.escape(name), model)


def _sources_of(model: str) -> Iterator[str]:
  """The sources of a model's module and of what it imports; imports nothing."""
  parts = model.split('.')[:-1]
  if not parts or not all(parts):
    return
  # Lingvo also looks for a package 'params' on the way.
  places = [
    [*parts[:end], 'params', *parts[end:]] for end in range(1, len(parts) + 1)
  ]
  places += [parts, ['model_params', *parts]]
  finder = modulefinder.ModuleFinder(
    [*sys.path, *_other_directories(places)], excludes=_NOT_FOLLOWED
  )
  for place in places:
    try:
      finder.import_hook('.'.join(place))
    except ImportError:
      continue
  for module in finder.modules.values():
    file = getattr(module, '__file__', None) or ''
    if file.endswith('.py'):
      yield pathlib.Path(file).read_text(encoding='utf-8')


def _other_directories(places: list[list[str]]) -> Iterator[str]:
  """Directories of packages that are not on the path: editable installs."""
  for top in {place[0] for place in places}:
    spec = importlib.util.find_spec(top)
    for directory in (spec and spec.submodule_search_locations) or ():
      yield str(pathlib.Path(directory).parent)
