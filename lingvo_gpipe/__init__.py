# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPipe pipeline parallelism for Lingvo.

Import this package before Lingvo: on hosts that are too old for Lingvo's
custom-op library it replaces this library by implementations of its own. It
loads Lingvo and TensorFlow with the first layer that is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lingvo_gpipe import lingvo_ops as _lingvo_ops
from lingvo_gpipe.version import __version__

if TYPE_CHECKING:
  from lingvo_gpipe.feature_extraction_layer import (
    FeatureExtractionLayer,
    PartitionSequentialLayers,
  )
  from lingvo_gpipe.named_layers import PutLayer, TakeLayer
  from lingvo_gpipe.pipelining_layer import PipeliningLayer
  from lingvo_gpipe.sequential_layer import GPipeSequentialLayer

__all__ = [
  'FeatureExtractionLayer',
  'GPipeSequentialLayer',
  'PartitionSequentialLayers',
  'PipeliningLayer',
  'PutLayer',
  'TakeLayer',
  '__version__',
]

_MODULES = {
  'FeatureExtractionLayer': 'feature_extraction_layer',
  'GPipeSequentialLayer': 'sequential_layer',
  'PartitionSequentialLayers': 'feature_extraction_layer',
  'PipeliningLayer': 'pipelining_layer',
  'PutLayer': 'named_layers',
  'TakeLayer': 'named_layers',
}

_lingvo_ops.install()


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
