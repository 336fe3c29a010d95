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

import dataclasses
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeAlias

from lingvo_gpipe import schedules, version
from lingvo_gpipe.schedules import OrderProblem

_VERSION = 1
_Entry: TypeAlias = dict[str, Any]


class CostsFile:
  """What is in a file, if there is one; ValueError if it is damaged."""

  def __init__(self, path: str | None):
    self._path = path
    self._sections = self._read()

  def get(self, section: str, what: str, make: Callable[[], _Entry]) -> _Entry:
    """The entry of `what`; of several made at once, the first."""
    key = hashlib.sha256(what.encode()).hexdigest()[:32]
    if key not in self._sections[section]:
      made = make()
      self._sections = self._read()
      if key not in self._sections[section]:
        self._sections[section][key] = made
        self._write()
    return self._sections[section][key]

  def _read(self) -> dict[str, dict[str, _Entry]]:
    if self._path is None or not os.path.exists(self._path):
      return {'layers': {}, 'orders': {}}
    try:
      with open(self._path, encoding='utf-8') as file:
        content = json.load(file)
      if content['version'] != _VERSION:
        raise ValueError(f'its version is {content["version"]!r}')
      layers = dict(content['layers'])
      for entry in layers.values():
        _check_layer(entry)
      # Older files have none.
      return {'layers': layers, 'orders': dict(content.get('orders', {}))}
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{self._path} cannot be used as a file of measured layer costs of '
        f'version {_VERSION} ({type(error).__name__}: {error}). Delete it to '
        'measure the layers again, or name another file.'
      ) from error

  def _write(self) -> None:
    if self._path is None:
      return
    directory = os.path.dirname(os.path.abspath(self._path))
    os.makedirs(directory, exist_ok=True)
    # Another process never sees half a file.
    with tempfile.NamedTemporaryFile(
      'w', dir=directory, delete=False, encoding='utf-8'
    ) as file:
      content = {'version': _VERSION, **self._sections}
      json.dump(content, file, indent=2, sort_keys=True)
    os.replace(file.name, self._path)


def _check_layer(entry: _Entry) -> None:
  for name in ('forward', 'backward'):
    if not (math.isfinite(entry[name]) and entry[name] >= 0):
      raise ValueError(f'{name} is {entry[name]!r}')
  share = entry.get('weight_share')
  if not (share is None or 0 <= share <= 1):
    raise ValueError(f'weight_share is {share!r}')


def with_known_order(problem: OrderProblem, path: str) -> OrderProblem:
  """A pipeline with its order under 'auto', from the file or found now.

  Without a path it is returned as it is: each process finds the same order.
  ValueError if the file, or its order for the problem, is damaged.
  """
  if not path:
    return problem

  def find() -> _Entry:
    found = schedules.find_best_order(problem).schedule
    return dict(json.loads(schedules.to_json(found)))

  what = repr((version.__version__, dataclasses.astuple(problem)))
  entry = CostsFile(path).get('orders', what, find)
  known = schedules.from_json(path, json.dumps(entry))
  return dataclasses.replace(problem, known=known)
