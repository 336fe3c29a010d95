# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A module that takes the place of Lingvo's custom ops where they cannot load.

`lingvo.core.ops` first tries to import a statically linked module,
`lingvo.core.ops.gen_x_ops`, and loads `x_ops.so` only without it. `install`
puts a module of that name in place, on hosts whose C or C++ library is too old
for `x_ops.so`. Nothing here imports Lingvo or TensorFlow: implementations are
imported when `lingvo.core.ops` asks for them, and it has TensorFlow by then.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from lingvo_gpipe.lingvo_ops import host

_PACKAGE = 'lingvo.core.ops'
MODULE_NAME = f'{_PACKAGE}.gen_x_ops'

# Op: the module of this package that has a function of the op's name.
IMPLEMENTATIONS: dict[str, str] = {
  'apply_packing': 'apply_packing',
  'ascii_to_token_id': 'ascii_tokens',
  'assert_same_dim0': 'assertions',
  'assert_shape_match': 'assertions',
  'best_step': 'best_step',
  'bpe_ids_to_words': 'vocab_file_tokens',
  'bpe_words_to_ids': 'vocab_file_tokens',
  'cached_call': 'cached_call',
  'id_to_ascii': 'ascii_tokens',
  'ngram_id_to_token': 'vocab_file_tokens',
  'pack_sequences': 'packing',
  'pack_single_sequence': 'packing',
  'random_permutation_sequence': 'random_permutation',
  'static_map_int_int': 'static_map',
  'static_map_int_string': 'static_map',
  'static_map_string_int': 'static_map',
  'str_to_vocab_tokens': 'vocab_file_tokens',
  'token_in_vocab': 'vocab',
  'vocab_id_to_token': 'vocab',
  'vocab_token_to_id': 'vocab',
}


# Op: what does without it, for ops whose users have a choice.
_ALTERNATIVES = dict.fromkeys(
  ('generic_input', 'generic_input_v2_create', 'generic_input_v2_get_next'),
  'use an input generator that reads with tf.data '
  '(base_input_generator.DefineTFDataInput)',
)


class UnavailableOpError(NotImplementedError):
  """An op of Lingvo's custom-op library was used where it cannot load."""


class StandIn(types.ModuleType):
  """Serves Lingvo's custom ops by name.

  An op listed in `IMPLEMENTATIONS` is this package's own. Any other public
  name is a function that raises `UnavailableOpError` when called: Lingvo looks
  up all its ops when it is imported, used or not.
  """

  def __init__(self, name: str, shortfall: host.Shortfall) -> None:
    super().__init__(name, __doc__)
    self._shortfall = shortfall

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
      op = _unavailable_op(name, self._shortfall)
    setattr(self, name, op)
    return op

  def __dir__(self) -> list[str]:
    return sorted({*super().__dir__(), *IMPLEMENTATIONS})


def install() -> StandIn | None:
  """Puts the stand-in where `lingvo.core.ops` looks, if it is needed.

  Does nothing where Lingvo's library loads, where its ops are imported
  already, and where Lingvo or the library is not installed (a statically
  linked build). May be called again.

  Returns:
    The stand-in in place, or None if there is none.
  """
  present = sys.modules.get(MODULE_NAME)
  if present is not None:
    return present if isinstance(present, StandIn) else None
  if _PACKAGE in sys.modules:
    return None
  library = host.find_library('lingvo', 'core', 'ops', 'x_ops.so')
  shortfall = library and host.find_shortfall(library)
  if not shortfall:
    return None
  stand_in = StandIn(MODULE_NAME, shortfall)
  sys.modules[MODULE_NAME] = stand_in
  return stand_in


def _unavailable_op(
  name: str, shortfall: host.Shortfall
) -> Callable[..., NoReturn]:
  def op(*args: Any, **kwargs: Any) -> NoReturn:
    del args, kwargs
    raise UnavailableOpError(_explain(name, shortfall))

  op.__name__ = op.__qualname__ = name
  op.__doc__ = f'Raises UnavailableOpError: `{name}` is not available here.'
  return op


def _explain(name: str, shortfall: host.Shortfall) -> str:
  needed = shortfall.glibc_needed
  if needed:
    versions = f'glibc found {shortfall.glibc}, glibc needed {needed}'
  else:
    versions = f'glibc found {shortfall.glibc}, which is new enough'
  return (
    f"Lingvo's custom op '{name}' is not available on this host, and "
    f'lingvo_gpipe has no TensorFlow implementation of it. It is in '
    f'{shortfall.library}, which cannot load here: {versions} (versions '
    f'missing: {", ".join(shortfall.missing)}). Use a newer distribution, for '
    f'example Debian 13 or Ubuntu 24.04, or '
    f'{_ALTERNATIVES.get(name, "do without this op")}.'
  )
