# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A JSON file of what layers were measured to take.

```
  {"version": 1, "layers": {
    "3f9a...": {"layer": "FCLayer", "given": "(float32[8,16])",
                "device": "CPU", "forward": 1.2e-3, "backward": 2.3e-3},
    ...}}
```
"""

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing.measure import Times

_VERSION = 1


def key(*parts: str) -> str:
  """A stable hash of texts, in which memory addresses do not count."""
  texts = [re.sub(r' at 0x[0-9a-f]+', '', part) for part in parts]
  return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


def device_kind(device: str) -> str:
  """The type of a device of this process, a GPU's model too.

  Args:
    device: Its name; '' for where TensorFlow would run things.
  """
  gpus = tf.config.list_physical_devices('GPU')
  spec = tf.DeviceSpec.from_string(device)
  kind = spec.device_type or ('GPU' if gpus else 'CPU')
  if kind != 'GPU' or not gpus:
    return kind
  details = tf.config.experimental.get_device_details(gpus[0])
  return f'GPU {details.get("device_name", "")}'.strip()


class MeasuredFile:
  """What is in a file; nothing if there is none."""

  def __init__(self, path: str | None):
    """Reads the file.

    Args:
      path: Where it is; None for no file, which keeps nothing.

    Raises:
      ValueError: It is not such a file.
    """
    self._path = path
    self._entries = self._read()

  def get(self, entry_key: str) -> Times | None:
    entry = self._entries.get(entry_key)
    if entry is None:
      return None
    return Times(entry['forward'], entry['backward'])

  def add(
    self, entry_key: str, times: Times, about: Mapping[str, str]
  ) -> Times:
    """Adds an entry, and writes the file.

    Where another process has written the entry in the meantime that one holds,
    so that all cut alike.

    Args:
      entry_key: Its key.
      times: What was measured.
      about: What it is of, for people.

    Returns:
      The times that hold.
    """
    if self._path is None:
      return times
    self._entries = self._read()
    if entry_key not in self._entries:
      self._entries[entry_key] = {
        **about,
        'forward': times.forward,
        'backward': times.backward,
      }
      self._write()
    found = self.get(entry_key)
    assert found is not None
    return found

  def _read(self) -> dict[str, Any]:
    if self._path is None or not os.path.exists(self._path):
      return {}
    try:
      with open(self._path, encoding='utf-8') as file:
        content = json.load(file)
      if content['version'] != _VERSION:
        raise ValueError(f'its version is {content["version"]!r}')
      entries = dict(content['layers'])
      for entry in entries.values():
        for name in ('forward', 'backward'):
          if not (math.isfinite(entry[name]) and entry[name] >= 0):
            raise ValueError(f'{name} is {entry[name]!r}')
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{self._path} cannot be used as a file of measured layer costs of '
        f'version {_VERSION} ({type(error).__name__}: {error}). Delete it to '
        'measure the layers again, or name another file.'
      ) from error
    return entries

  def _write(self) -> None:
    directory = os.path.dirname(os.path.abspath(self._path))
    os.makedirs(directory, exist_ok=True)
    content = {'version': _VERSION, 'layers': self._entries}
    # Another process never sees half a file.
    with tempfile.NamedTemporaryFile(
      'w', dir=directory, delete=False, encoding='utf-8'
    ) as file:
      json.dump(content, file, indent=2, sort_keys=True)
      file.write('\n')
    os.replace(file.name, self._path)
