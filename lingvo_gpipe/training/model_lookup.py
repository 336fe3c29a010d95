# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds a registered model by its name.

`image.digits.AmoebaNetD` is class `AmoebaNetD` in
`model_params/image/digits.py`. Lingvo's own names work as well: a module on
the Python path, or one of `lingvo.tasks`.
"""

import difflib
import importlib
import pkgutil
import sys

from absl import logging
from lingvo import model_imports, model_registry

from lingvo_gpipe import model_registration
from lingvo_gpipe.training import user_error

_PACKAGE = model_registration.PACKAGE


def _import_if_there(module):
  """Imports `module`; False if it, or a package it lies in, is not there."""
  try:
    importlib.import_module(module)
  except ModuleNotFoundError as error:
    # A module that is there but lacks something it imports is a real error.
    if error.name and (module + '.').startswith(error.name + '.'):
      return False
    raise
  return True


def _all_modules():
  if not _import_if_there(_PACKAGE):
    return []
  package = importlib.import_module(_PACKAGE)
  return [
    module.name
    for module in pkgutil.walk_packages(package.__path__, _PACKAGE + '.')
    if not module.ispkg
  ]


def _keys_by_file():
  """The registry's keys by the names that files and classes give.

  Lingvo makes the key from the module's name by deleting every 'params.' in
  it, which does not always leave the name of the file.
  """
  keys = {}
  for key, registered in model_registry.GetAllRegisteredClasses().items():
    source = registered.__mro__[1]  # Lingvo wraps what it registers.
    module = source.__module__.removeprefix(_PACKAGE + '.')
    keys[f'{module}.{source.__name__}'] = key
  return keys


def _key_of(name):
  """The registry's key of the model `name`, None if it isn't registered."""
  if name in model_registry.GetAllRegisteredClasses():
    return name
  return _keys_by_file().get(name)


def find_model(name):
  """Imports what defines the model `name`.

  Args:
    name: A model's name, such as 'image.digits.AmoebaNetD'.

  Returns:
    The model's key in Lingvo's `model_registry`.

  Raises:
    UserError: if no such model is registered, with names like it; or if its
      module can't be imported, with the line where it fails.
  """
  module = name.rpartition('.')[0]
  try:
    if not _key_of(name) and module:
      _import_if_there(f'{_PACKAGE}.{module}')
    if not _key_of(name) and module:
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
    raise user_error.UserError(_unknown(name))
  return key


def known_models():
  """Imports all of `model_params` and returns the names of its models."""
  for module in _all_modules():
    try:
      _import_if_there(module)
    except Exception as error:
      # Names to suggest are not worth failing for.
      logging.warning('%s: not searched for models: %s', module, error)
  return sorted(_keys_by_file())


def _unknown(name):
  """The message for a model that there isn't."""
  module, _, cls = name.rpartition('.')
  start = f'--model={name}: no such model.'
  for found in (f'{_PACKAGE}.{module}', module):
    if isinstance(getattr(sys.modules.get(found), cls, None), type):
      return (
        f'{start} Class {cls} of {found} is not registered: put '
        '@model_registry.RegisterSingleTaskModel before it.'
      )
  names = known_models()
  near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
  classes = {full.rpartition('.')[2] for full in names}
  for match in difflib.get_close_matches(cls, classes):
    near += [
      full for full in names if full.endswith('.' + match) and full not in near
    ]
  nearest = f' Nearest: {", ".join(near)}.' if near else ''
  if not module:
    return start + (nearest or ' A name is MODULE.CLASS.')
  if module in sys.modules or f'{_PACKAGE}.{module}' in sys.modules:
    if not nearest:
      has = [full for full in names if full.startswith(module + '.')]
      nearest = f' {module} has {", ".join(has) or "none"}.'
    return start + nearest
  return (
    f'{start}{nearest} There is no module {module} in {_PACKAGE} or on the '
    'Python path: is the directory that it is in part of PYTHONPATH?'
  )
