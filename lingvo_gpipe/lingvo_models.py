# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the GPipe models that come with Lingvo on this package's engine.

They are those of `lingvo.core.layers_with_gpipe`, `GPipeTransformerLm` of
`lingvo.tasks.lm.layers` and the stacks of `batch_major_attention.Builder`:

```
        lingvo.core.gpipe                       lingvo_gpipe
     PipeliningLayer    .---------------->  PipeliningLayer
            ^           |   use_our_engine          ^
            '-----------+---------------------------'
                GPipeTransformerStack, your own, ...
```

Variables then have other names than in checkpoints of Lingvo's engine.
"""

import contextlib
import sys
from collections.abc import Iterator

from lingvo.core import gpipe

from lingvo_gpipe import feature_extraction_layer as ours
from lingvo_gpipe import pipelining_layer

# What takes the place of what; kept here as `gpipe` itself is changed.
_LINGVO_TO_OURS = (
  (gpipe.PipeliningLayer, pipelining_layer.PipeliningLayer),
  (gpipe.FeatureExtractionLayer, ours.FeatureExtractionLayer),
  (gpipe.PartitionSequentialLayers, ours.PartitionSequentialLayers),
)


# Undoes the changes, once they are made.
_undo: contextlib.ExitStack | None = None


def use_our_engine() -> None:
  """Replaces Lingvo's pipelining layers by ours, in this process.

  Classes derived from Lingvo's layers are then derived from ours, and names of
  Lingvo's layers in all modules refer to ours. Call it before Params of models
  are made: earlier ones lack those of our layer, and layers built earlier no
  longer run. TypeError if Python cannot change the bases of a derived class;
  nothing is changed then.
  """
  global _undo
  if _undo is not None:
    return
  with contextlib.ExitStack() as undo:
    _change_bases(undo)
    _change_names(undo)
    _undo = undo.pop_all()


@contextlib.contextmanager
def our_engine() -> Iterator[None]:
  """As `use_our_engine`, but only inside; modules imported there stay so."""
  global _undo
  before = _undo
  use_our_engine()
  try:
    yield
  finally:
    if before is None and _undo is not None:
      _undo.close()
      _undo = None


def _change_bases(undo: contextlib.ExitStack) -> None:
  new = dict(_LINGVO_TO_OURS)
  for old in (gpipe.PipeliningLayer, gpipe.FeatureExtractionLayer):
    for cls in old.__subclasses__():
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
  # By identity: to compare may fail, and getattr would load a lazy module.
  new = {id(theirs): value for theirs, value in _LINGVO_TO_OURS}
  for module in list(sys.modules.values()):
    names = getattr(module, '__dict__', None) or {}
    for name, value in list(names.items()):
      if id(value) in new:
        undo.callback(setattr, module, name, value)
        setattr(module, name, new[id(value)])
