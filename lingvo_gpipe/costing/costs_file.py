# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A JSON file of what takes long to find, for all processes that share it.

```
  {"version": 1,
   "layers": {"3f9a...": {"layer": "FCLayer", "given": "(float32[8,16])",
                          "device": "CPU", "forward": 1.2e-3,
                          "backward": 2.3e-3, "weight_share": 0.5}, ...},
   "orders": {"81c2...": {"name": "auto", "device_tasks": ..., ...}, ...}}
```
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from typing import Any

_VERSION = 1
_SECTIONS = ('layers', 'orders')


class CostsFile:
  """What is in a file; nothing if there is none."""

  def __init__(self, path: str | None):
    """Reads the file; None for no file, which keeps nothing.

    Raises:
      ValueError: It is not such a file.
    """
    self._path = path
    self._sections = self._read()

  def get(self, section: str, key: str) -> Mapping[str, Any] | None:
    """An entry; None if there is none."""
    return self._sections[section].get(key)

  def add(
    self, section: str, key: str, entry: Mapping[str, Any]
  ) -> Mapping[str, Any]:
    """Adds an entry, and writes the file.

    Where another process has written the entry in the meantime that one holds,
    so that all cut alike.

    Args:
      section: 'layers' or 'orders'.
      key: Its key.
      entry: What is to be kept.

    Returns:
      The entry that holds.
    """
    if self._path is None:
      return entry
    self._sections = self._read()
    if key not in self._sections[section]:
      self._sections[section][key] = entry
      self._write(self._path)
    return self._sections[section][key]

  def _read(self) -> dict[str, dict[str, Mapping[str, Any]]]:
    if self._path is None or not os.path.exists(self._path):
      return {section: {} for section in _SECTIONS}
    try:
      with open(self._path, encoding='utf-8') as file:
        content = json.load(file)
      if content['version'] != _VERSION:
        raise ValueError(f'its version is {content["version"]!r}')
      layers = dict(content['layers'])
      for entry in layers.values():
        _check_layer(entry)
      # Older files have none.
      orders = dict(content.get('orders', {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{self._path} cannot be used as a file of measured layer costs of '
        f'version {_VERSION} ({type(error).__name__}: {error}). Delete it to '
        'measure the layers again, or name another file.'
      ) from error
    return {'layers': layers, 'orders': orders}

  def _write(self, path: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, exist_ok=True)
    content = {'version': _VERSION, **self._sections}
    # Another process never sees half a file.
    with tempfile.NamedTemporaryFile(
      'w', dir=directory, delete=False, encoding='utf-8'
    ) as file:
      json.dump(content, file, indent=2, sort_keys=True)
      file.write('\n')
    os.replace(file.name, path)


def _check_layer(entry: Mapping[str, Any]) -> None:
  for name in ('forward', 'backward'):
    if not (math.isfinite(entry[name]) and entry[name] >= 0):
      raise ValueError(f'{name} is {entry[name]!r}')
  share = entry.get('weight_share')
  if not (share is None or 0 <= share <= 1):
    raise ValueError(f'weight_share is {share!r}')
