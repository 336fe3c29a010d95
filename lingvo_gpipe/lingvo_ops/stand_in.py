# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A module that takes the place of Lingvo's custom ops where they cannot load.

`lingvo.core.ops` first tries to import a statically linked module,
`lingvo.core.ops.gen_x_ops`, and loads `x_ops.so` only without it. After
`install` the import system tries to load `x_ops.so` at that point, and gives a
module of ours where the C or C++ library of the host is too old for it.
Lingvo's wheels are built on a newer system than their platform tag says:
`x_ops.so` of 0.14 needs glibc 2.38, which Debian 12 and Ubuntu 22.04 do not
have.

Nothing here imports Lingvo or TensorFlow before `lingvo.core.ops` does.
"""

from __future__ import annotations

import importlib
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

# Op: the module of this package that has a function of the op's name. They are
# what Lingvo's layers, programs and inputs use that do not read by its op
# GenericInput, which there is no implementation of.
IMPLEMENTATIONS: dict[str, str] = {
  'assert_same_dim0': 'assertions',
  'assert_shape_match': 'assertions',
  'best_step': 'best_step',
  'cached_call': 'stateful_ops',
  'random_permutation_sequence': 'stateful_ops',
}

# Op: what does without it, for ops whose users have a choice.
_ALTERNATIVES = dict.fromkeys(
  ('generic_input', 'generic_input_v2_create', 'generic_input_v2_get_next'),
  'use an input generator that reads with tf.data '
  '(base_input_generator.DefineTFDataInput)',
)
# What glibc's loader says of a library that needs a newer one.
_TOO_OLD = re.compile(r"version `\S+' not found")


class UnavailableOpError(NotImplementedError):
  """An op of Lingvo's custom-op library was used where it cannot load."""


class StandIn(types.ModuleType):
  """Serves Lingvo's custom ops by name.

  An op listed in `IMPLEMENTATIONS` is this package's own. Any other public
  name is a function that raises `UnavailableOpError` when called: Lingvo looks
  up all its ops when it is imported, used or not.
  """

  def __init__(self, reason: str) -> None:
    """`reason`: the loader's words on why Lingvo's library cannot load."""
    super().__init__(MODULE_NAME, __doc__)
    self._reason = reason

  def __getattr__(self, name: str) -> Callable[..., Any]:
    # Dunder names belong to the module protocol: `inspect` asks any module
    # for its `__file__`, and a function there would break it.
    if name.startswith('_'):
      raise AttributeError(f'module {self.__name__!r} has no {name!r}')
    op: Callable[..., Any]
    if name in IMPLEMENTATIONS:
      module = importlib.import_module(
        f'lingvo_gpipe.lingvo_ops.{IMPLEMENTATIONS[name]}'
      )
      op = getattr(module, name)
    else:
      op = _unavailable_op(name, self._reason)
    setattr(self, name, op)
    return op

  def __dir__(self) -> list[str]:
    return sorted({*super().__dir__(), *IMPLEMENTATIONS})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds and makes the stand-in where Lingvo's library cannot load."""

  _reason = ''

  def find_spec(
    self,
    fullname: str,
    path: Sequence[str] | None,
    target: types.ModuleType | None = None,
  ) -> importlib.machinery.ModuleSpec | None:
    """None for other modules, and where Lingvo can load its library itself.

    A build of Lingvo without the library, and one that does not load for
    another reason, are left to Lingvo.
    """
    if fullname != MODULE_NAME or not path:
      return None
    library = pathlib.Path(path[0], 'x_ops.so')
    self._reason = _why_too_old(library) if library.is_file() else ''
    if not self._reason:
      return None
    return importlib.util.spec_from_loader(fullname, self)

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> StandIn:
    return StandIn(self._reason)

  def exec_module(self, module: types.ModuleType) -> None:
    pass


def install() -> None:
  """Has Lingvo get the stand-in when it is imported, if it is needed.

  Does nothing where Lingvo's ops are imported already. May be called again.
  """
  if not any(isinstance(finder, Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, Finder())


def _why_too_old(library: pathlib.Path) -> str:
  """What the loader says if this host's C or C++ library is too old, or ''.

  Loading the library of ops again costs nothing.
  """
  import tensorflow as tf

  try:
    tf.load_op_library(str(library))
  except tf.errors.NotFoundError as error:
    return error.message if _TOO_OLD.search(error.message) else ''
  return ''


def _unavailable_op(name: str, reason: str) -> Callable[..., NoReturn]:
  def op(*args: Any, **kwargs: Any) -> NoReturn:
    del args, kwargs
    instead = _ALTERNATIVES.get(name, 'do without this op')
    raise UnavailableOpError(
      f"Lingvo's custom op '{name}' is not available on this host, whose "
      f"system libraries are too old for Lingvo's library of ops: {reason}. "
      'Use a host with glibc 2.38 or later, for example Debian 13 or Ubuntu '
      f'24.04, which has it, or {instead}.'
    )

  op.__name__ = op.__qualname__ = name
  op.__doc__ = f'Raises UnavailableOpError: `{name}` is not available here.'
  return op
