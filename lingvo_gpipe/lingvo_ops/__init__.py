# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's custom ops on hosts where its library of them cannot load.

`lingvo.core.ops` first tries to import a statically linked module,
`lingvo.core.ops.gen_x_ops`, and loads `x_ops.so` only without it. After
`install` it finds a module of ours there if the C or C++ library of the host is
too old for `x_ops.so`, as one without glibc 2.38 is for Lingvo 0.14. Nothing
here imports Lingvo or TensorFlow before `lingvo.core.ops` does.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import pathlib
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

MODULE_NAME = 'lingvo.core.ops.gen_x_ops'

# What glibc's loader says of a library that needs a newer one.
_TOO_OLD = re.compile(r"version `\S+' not found")


class UnavailableOpError(NotImplementedError):
  """An op of Lingvo's custom-op library was used where it cannot load."""


class StandIn(types.ModuleType):
  """Serves Lingvo's custom ops by name.

  An op that `implementations` has not raises UnavailableOpError only when it is
  called: Lingvo looks up all its ops when it is imported.
  """

  def __init__(self, reason: str) -> None:
    """`reason`: the loader's words on why Lingvo's library cannot load."""
    super().__init__(MODULE_NAME, __doc__)
    self._reason = reason

  def __getattr__(self, name: str) -> Callable[..., Any]:
    # Others belong to the module protocol, such as `__file__`.
    if name.startswith('_'):
      raise AttributeError(f'module {self.__name__!r} has no {name!r}')
    from lingvo_gpipe.lingvo_ops import implementations

    if name not in implementations.__all__:
      return _unavailable_op(name, self._reason)
    op: Callable[..., Any] = getattr(implementations, name)
    return op


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds and makes the stand-in where Lingvo's library cannot load."""

  _reason = ''

  def find_spec(
    self,
    fullname: str,
    path: Sequence[str] | None,
    target: types.ModuleType | None = None,
  ) -> importlib.machinery.ModuleSpec | None:
    if fullname != MODULE_NAME or not path:
      return None
    self._reason = _why_too_old(pathlib.Path(path[0], 'x_ops.so'))
    if not self._reason:
      return None
    return importlib.util.spec_from_loader(fullname, self)

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> StandIn:
    return StandIn(self._reason)

  def exec_module(self, module: types.ModuleType) -> None:
    pass


def install() -> None:
  """Has Lingvo get the stand-in when it is imported, if it is needed."""
  if not any(isinstance(finder, Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, Finder())


def _why_too_old(library: pathlib.Path) -> str:
  """What the loader says if this host's C or C++ library is too old, or ''."""
  import tensorflow as tf

  try:
    # Lingvo's loading it again costs nothing.
    tf.load_op_library(str(library))
  except tf.errors.NotFoundError as error:
    return error.message if _TOO_OLD.search(error.message) else ''
  return ''


def _unavailable_op(name: str, reason: str) -> Callable[..., NoReturn]:
  def op(*unused_args: Any, **unused_kwargs: Any) -> NoReturn:
    raise UnavailableOpError(
      f"Lingvo's custom op '{name}' is not available on this host, whose "
      f"libraries are too old for Lingvo's: {reason}. Use one with glibc 2.38, "
      'such as Debian 13 or Ubuntu 24.04; in place of GenericInput inputs of '
      'tf.data (base_input_generator.DefineTFDataInput).'
    )

  return op
