# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registers models of `model_params` with Lingvo's model registry.

Lingvo names a model by its module and its class, without 'lingvo.tasks.' and
without 'params.'. If Lingvo itself registered the class AmoebaNetD of
`model_params.image.digits`, its name would be 'model_image.digits.AmoebaNetD',
and Lingvo's trainer would look for it in `lingvo.tasks`. Here its name is
'image.digits.AmoebaNetD', and it is found.

The models of lingvo_gpipe are installed as `lingvo_gpipe.model_params`, so that
`model_params` can be a user's package. Models that are not in that package are
looked up in ours.
"""

import importlib

from lingvo import model_imports, model_registry

PACKAGES = ('model_params', 'lingvo_gpipe.model_params')


class _Registry(model_registry._ModelRegistryHelper):
  """Lingvo's registry, which keeps its models in the base class."""

  @classmethod
  def _ClassPathPrefix(cls):
    return 'model_params.'

  @classmethod
  def _ModelParamsClassKey(cls, src_cls):
    return super()._ModelParamsClassKey(src_cls).removeprefix('lingvo_gpipe.')


RegisterSingleTaskModel = _Registry.RegisterSingleTaskModel


def let_lingvo_find_models():
  """Makes Lingvo look for models in `model_params` first.

  After this, `lingvo.model_registry` and with it Lingvo's trainer resolve
  'image.digits.AmoebaNetD' by importing `model_params.image.digits`. Other
  names are looked up as before. Calling it again changes nothing.
  """
  import_params = model_imports.ImportParams
  if hasattr(import_params, 'lingvos'):
    return

  def import_ours_first(model_name, *args, **kwargs):
    return import_from_packages(model_name) or import_params(
      model_name, *args, **kwargs
    )

  import_ours_first.lingvos = import_params
  model_imports.ImportParams = import_ours_first


def import_from_packages(model_name):
  """Imports a model's module from the first package with it; False if none."""
  module = model_name.rpartition('.')[0]
  return bool(module) and any(
    import_if_there(f'{package}.{module}') for package in PACKAGES
  )


def import_if_there(module):
  """Imports `module`; False if it, or a package around it, does not exist."""
  try:
    importlib.import_module(module)
  except ModuleNotFoundError as error:
    # A module that is there but lacks something it imports is a real error.
    if error.name and (module + '.').startswith(error.name + '.'):
      return False
    raise
  return True
