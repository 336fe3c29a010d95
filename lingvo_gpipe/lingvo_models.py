# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the GPipe models that come with Lingvo on this package's engine.

Lingvo's own GPipe models are written for `lingvo.core.gpipe`: those of
`lingvo.core.layers_with_gpipe`, `lingvo.tasks.lm.layers.GPipeTransformerLm` and
the stacks of `lingvo.core.batch_major_attention.Builder`. One call replaces it
by the layers of this package. Call it before Params of such models are made:

```
  import lingvo_gpipe.lingvo_models
  lingvo_gpipe.lingvo_models.use_our_engine()
```

Classes derived from Lingvo's PipeliningLayer, in Lingvo or elsewhere, are then
derived from ours, and names of Lingvo's layers in all modules refer to ours:

```
        lingvo.core.gpipe                       lingvo_gpipe
     PipeliningLayer    .---------------->  PipeliningLayer
            ^           |   use_our_engine          ^
            '-----------+---------------------------'
                GPipeTransformerStack, your own, ...
```

Variables are then named as `PipeliningLayer` names them, without the cell; a
checkpoint that Lingvo's engine wrote has other names.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lingvo.core import gpipe

from lingvo_gpipe import feature_extraction_layer, pipelining_layer

# What takes the place of what; kept here as `gpipe` itself is changed.
_LINGVO_TO_OURS = (
  (gpipe.PipeliningLayer, pipelining_layer.PipeliningLayer),
  (
    gpipe.FeatureExtractionLayer,
    feature_extraction_layer.FeatureExtractionLayer,
  ),
  (
    gpipe.PartitionSequentialLayers,
    feature_extraction_layer.PartitionSequentialLayers,
  ),
)


# What undoes the changes, once they are made.
_undo: contextlib.ExitStack | None = None


def use_our_engine() -> None:
  """Replaces Lingvo's pipelining layers by ours, in this process.

  Call it before Params of the models are made: Params made earlier lack those
  of our layer, and layers built earlier no longer run. Calling it again does
  nothing.

  Raises:
    TypeError: Python cannot change the bases of a class derived from one of
      Lingvo's layers; the error names the class. Nothing is changed then.
  """
  global _undo
  if _undo is not None:
    return
  with contextlib.ExitStack() as undo:
    _change_bases(undo, dict(_LINGVO_TO_OURS))
    _change_names(undo)
    _undo = undo.pop_all()


def use_lingvo_engine() -> None:
  """Undoes `use_our_engine`; does nothing if it has not been called.

  This includes modules of Lingvo that were imported after `use_our_engine`.
  """
  global _undo
  if _undo is None:
    return
  _undo.close()
  _undo = None
  to_lingvo = {ours: theirs for theirs, ours in _LINGVO_TO_OURS}
  for module in _modules('lingvo'):
    for name, value in _bound_to(module, to_lingvo):
      setattr(module, name, to_lingvo[value])
  _change_bases(contextlib.ExitStack(), to_lingvo, package='lingvo')


@contextlib.contextmanager
def our_engine() -> Iterator[None]:
  """Inside, Lingvo's models run on our engine; for tests and comparisons."""
  before = _undo
  use_our_engine()
  try:
    yield
  finally:
    if before is None:
      use_lingvo_engine()


def _change_bases(
  undo: contextlib.ExitStack, new: Mapping[Any, Any], package: str = ''
) -> None:
  """Derives direct subclasses of the keys of `new` from the values instead."""
  for old in new:
    if not isinstance(old, type):
      continue
    for cls in old.__subclasses__():
      if package and not _belongs(cls.__module__, package):
        continue
      bases = cls.__bases__
      try:
        cls.__bases__ = tuple(new.get(base, base) for base in bases)
      except TypeError as error:
        raise TypeError(
          f'{cls.__module__}.{cls.__qualname__} derives from '
          f'{old.__module__}.{old.__qualname__} in a way that Python cannot '
          f'change: {error}. Call lingvo_gpipe.lingvo_models.use_our_engine() '
          'before the module that defines it is imported.'
        ) from error
      undo.callback(setattr, cls, '__bases__', bases)


def _change_names(undo: contextlib.ExitStack) -> None:
  """Binds every name that has one of Lingvo's layers to ours."""
  ours = dict(_LINGVO_TO_OURS)
  for module in _modules():
    if module is sys.modules[__name__]:
      continue
    for name, value in _bound_to(module, ours):
      undo.callback(setattr, module, name, value)
      setattr(module, name, ours[value])


def _modules(package: str = '') -> list[Any]:
  """The modules imported so far, those of a package only if one is named."""
  return [
    module
    for name, module in list(sys.modules.items())
    if not package or _belongs(name, package)
  ]


def _belongs(module_name: str, package: str) -> bool:
  return module_name == package or module_name.startswith(f'{package}.')


def _bound_to(module: Any, values: Mapping[Any, Any]) -> list[tuple[str, Any]]:
  """The names in a module that are bound to a key of `values`."""
  # By identity, and not by getattr: a comparison may fail or be slow, and
  # asking a lazy module for a name would load it.
  wanted = {id(value): value for value in values}
  names = getattr(module, '__dict__', None) or {}
  return [
    (name, wanted[id(bound)])
    for name, bound in list(names.items())
    if id(bound) in wanted
  ]
