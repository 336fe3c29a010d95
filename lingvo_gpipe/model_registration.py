# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registers models of `model_params` with Lingvo's model registry.

Names such as 'image.digits.AmoebaNetD' are found, and not mangled. What is not
in a user's `model_params` is looked up in ours, `lingvo_gpipe.model_params`.
"""

import importlib
from typing import Any

from lingvo import model_imports, model_registry

PACKAGES = ('model_params', 'lingvo_gpipe.model_params')


class _Registry(model_registry._ModelRegistryHelper):
  """Lingvo's registry, which keeps its models in the base class."""

  @classmethod
  def _ClassPathPrefix(cls) -> str:
    return 'model_params.'

  @classmethod
  def _ModelParamsClassKey(cls, src_cls: type) -> Any:
    return super()._ModelParamsClassKey(src_cls).removeprefix('lingvo_gpipe.')


RegisterSingleTaskModel = _Registry.RegisterSingleTaskModel
_import_params = model_imports.ImportParams


def let_lingvo_find_models() -> None:
  """Makes Lingvo's registry and trainer look in `model_params` first."""
  model_imports.ImportParams = _import_ours_first


def _import_ours_first(model_name: str, *args: Any, **kwargs: Any) -> Any:
  return import_from_packages(model_name) or _import_params(
    model_name, *args, **kwargs
  )


def import_from_packages(model_name: str) -> bool:
  """Imports a model's module from the first package with it; False if none."""
  module = model_name.rpartition('.')[0]
  return bool(module) and any(
    import_if_there(f'{package}.{module}') for package in PACKAGES
  )


def import_if_there(module: str) -> bool:
  """Imports `module`; False if it, or a package around it, does not exist."""
  try:
    importlib.import_module(module)
  except ModuleNotFoundError as error:
    # A module that is there but lacks something it imports is a real error.
    if error.name and (module + '.').startswith(error.name + '.'):
      return False
    raise
  return True
