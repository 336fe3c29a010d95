# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds a registered model by its name, and explains mistakes in overrides.

`image.digits.AmoebaNetD` is class `AmoebaNetD` in
`model_params/image/digits.py`, a package `model_params` on the Python path or
else that of lingvo_gpipe. Lingvo's own names work as well: a module on
the Python path, or one of `lingvo.tasks`.
"""

import difflib
import functools
import importlib
import pkgutil
import re
import sys

import lingvo.compat as tf
from absl import logging
from lingvo import model_imports, model_registry

from lingvo_gpipe import model_registration
from lingvo_gpipe.training import user_error

FLAGS = tf.flags.FLAGS


def _registered():
  """Models by key; Lingvo's own function imports all of its tasks first."""
  return model_registry._ModelRegistryHelper._MODEL_PARAMS


def _keys_by_file():
  """The registry's keys by the names that files and classes give."""
  keys = {}
  # Lingvo deletes every 'params.' in them.
  for key, registered in _registered().items():
    source = registered.__mro__[1]  # Lingvo wraps what it registers.
    module = source.__module__
    for package in model_registration.PACKAGES:
      module = module.removeprefix(f'{package}.')
    keys[f'{module}.{source.__name__}'] = key
  return keys


def _key_of(name):
  if name in _registered():
    return name
  return _keys_by_file().get(name)


def find_model(name):
  """Imports what defines a model; returns its key in Lingvo's registry.

  UserError if there is none, or with the line where its import fails.
  """
  try:
    if not _key_of(name):
      model_registration.import_from_packages(name)
    if not _key_of(name) and '.' in name:
      model_imports.ImportParams(name, require_success=False)
  except Exception as error:
    place = user_error.place_in_users_code(error)
    if not place:
      raise
    what = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise user_error.UserError(
      f'--model={name}: its module cannot be imported. {place}: {what}'
    ) from error
  key = _key_of(name)
  if not key:
    raise user_error.UserError(
      f'--model={name}: no such model. {_why_unknown(name)}'
    )
  return key


def known_models():
  """Imports all models, Lingvo's too, and returns their names."""
  model_imports.ImportAllParams()
  modules: dict[str, str] = {}  # Of those with the same name the first.
  for package in model_registration.PACKAGES:
    if model_registration.import_if_there(package):
      path = sys.modules[package].__path__
      for module in pkgutil.walk_packages(path, f'{package}.'):
        if not module.ispkg:
          modules.setdefault(module.name.removeprefix(package), module.name)
  for name in sorted(modules.values()):
    try:
      importlib.import_module(name)
    except Exception as error:
      # Names to suggest are not worth failing for.
      logging.warning('%s: not searched for models: %s', name, error)
  return sorted(_keys_by_file())


def _why_unknown(name):
  module, _, cls = name.rpartition('.')
  places = [*(f'{p}.{module}' for p in model_registration.PACKAGES), module]
  for place in places:
    if isinstance(getattr(sys.modules.get(place), cls, None), type):
      return (
        f'Class {cls} of {place} is not registered: put '
        '@model_registry.RegisterSingleTaskModel before it.'
      )
  names = known_models()
  near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
  classes = {n.rpartition('.')[2] for n in names}
  for match in difflib.get_close_matches(cls, classes):
    near += [n for n in names if n.endswith(f'.{match}') and n not in near]
  if near:
    return f'Nearest: {", ".join(near)}.'
  if not module:
    return 'A name is MODULE.CLASS.'
  if any(place in sys.modules for place in places):
    has = [n for n in names if n.startswith(f'{module}.')]
    return f'{module} has {", ".join(has) or "none"}.'
  return (
    f'There is no module {module} in model_params or on the Python path: is '
    'the directory that it is in part of PYTHONPATH?'
  )


_TEXT, _FILE = 'model_params_override', 'model_params_file_override'


def explain_overrides():
  """Has them told as UserErrors, wherever Lingvo makes a model's Params."""
  registry = model_registry._ModelRegistryHelper
  lingvos = registry.MaybeUpdateParamsFromFlags
  if hasattr(lingvos, '__wrapped__'):
    return

  @functools.wraps(lingvos)
  def update(cfg):
    file = FLAGS[_FILE].value
    # Lingvo would go on without it.
    if file and not tf.io.gfile.exists(file):
      raise user_error.UserError(f'--{_FILE}={file}: there is no such file.')
    try:
      lingvos(cfg)
    # AttributeError, ValueError, TypeError, SyntaxError, AssertionError, ...
    except Exception as error:
      raise _what_is_wrong(cfg, error) from error

  registry.MaybeUpdateParamsFromFlags = staticmethod(update)


def _what_is_wrong(cfg, error):
  flag, text = _TEXT, FLAGS[_TEXT].value.replace(';', '\n')
  if not text:
    flag = _FILE
    with tf.io.gfile.GFile(FLAGS[_FILE].value) as file:
      text = file.read()
  settings = re.findall(r'^\s*([^\s#:]+)\s*:\s*(.*)$', text, re.MULTILINE)
  # What ToText writes, FromText reads: 'name : value'.
  values = dict(re.findall(r'^(\S+) : (.*)', cfg.ToText(), re.MULTILINE))
  for name, value in settings:
    if name not in values:
      given = f'{name}:{value}'
      return user_error.unknown(flag, given, 'Param', name, values)
    try:
      cfg.Copy().FromText(f'{name}:{value}')
    except Exception as of_this:
      why = str(of_this).partition('\n')[0]
      if values[name] == 'NoneType':
        why = 'its value is None, so its type is not known here; set it in code'
      return user_error.UserError(f'--{flag}={name}:{value}: {why}.')
  return user_error.UserError(f'--{flag}: {error}')
