# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What layers take when they run, kept in a JSON file.

```
  {"version": 1, "layers": {
    "3f9a...": {"layer": "FCLayer", "given": "(float32[8,16])",
                "device": "CPU", "forward": 1.2e-3, "backward": 2.3e-3,
                "weight_share": 0.5},
    ...}}
```
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import cost_session, measure
from lingvo_gpipe.costing.layer_profile import LayerProfile
from lingvo_gpipe.costing.weights import ParamsCache, as_text, in_build_thread
from lingvo_gpipe.cutting.cost_model import LayerCost

_VERSION = 1
# Reading less would not flush the caches, and reading more would not help.
_LEAST_SWEPT_BYTES, _MOST_SWEPT_BYTES = 2**18, 2**26


class _MeasuredFile:
  """What is in a file; nothing if there is none."""

  def __init__(self, path: str | None):
    """Reads the file; None for no file, which keeps nothing.

    Raises:
      ValueError: It is not such a file.
    """
    self._path = path
    self._entries = self._read()

  def get(self, entry_key: str) -> measure.Times | None:
    entry = self._entries.get(entry_key)
    return entry and measure.Times(
      entry['forward'], entry['backward'], entry.get('weight_share')
    )

  def add(
    self, entry_key: str, times: measure.Times, about: Mapping[str, str]
  ) -> measure.Times:
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
      self._entries[entry_key] = {**about, **dataclasses.asdict(times)}
      self._write(self._path)
    return self.get(entry_key) or times

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
        share = entry.get('weight_share')  # Older files have none.
        if not (share is None or 0 <= share <= 1):
          raise ValueError(f'weight_share is {share!r}')
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f'{self._path} cannot be used as a file of measured layer costs of '
        f'version {_VERSION} ({type(error).__name__}: {error}). Delete it to '
        'measure the layers again, or name another file.'
      ) from error
    return entries

  def _write(self, path: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, exist_ok=True)
    content = {'version': _VERSION, 'layers': self._entries}
    # Another process never sees half a file.
    with tempfile.NamedTemporaryFile(
      'w', dir=directory, delete=False, encoding='utf-8'
    ) as file:
      json.dump(content, file, indent=2, sort_keys=True)
      file.write('\n')
    os.replace(file.name, path)


def measure_profiles(
  profiles: Sequence[LayerProfile], file: str | None = None
) -> list[LayerCost]:
  """The profiles' costs, their times in seconds, measured where they run.

  Each kind of layer is run alone, with variables as they are initialised and
  random arguments, forward and backward in turn; its times are medians.

  Args:
    profiles: The layers.
    file: A JSON file whose times are used, and to which new ones are added.

  Raises:
    ValueError: The file is damaged, or a layer cannot be run.
  """
  cost_session.prepare_to_measure()
  stored = _MeasuredFile(file)
  all_times = in_build_thread(lambda: _measure_all(profiles, stored))
  return [
    dataclasses.replace(profile.cost, **dataclasses.asdict(times))
    for profile, times in zip(profiles, all_times, strict=True)
  ]


def _measure_all(
  profiles: Sequence[LayerProfile], stored: _MeasuredFile
) -> list[measure.Times]:
  """The times of each layer; those that are alike are measured once."""
  known: ParamsCache[measure.Times] = ParamsCache()
  total = sum(_used_bytes(profile.cost) for profile in profiles)

  def times(profile: LayerProfile) -> measure.Times:
    swept = _swept_bytes(total - _used_bytes(profile.cost))
    return known.get(
      profile.params, profile.key, lambda: _measured(profile, stored, swept)
    )

  return [times(profile) for profile in profiles]


def _used_bytes(cost: LayerCost) -> int:
  """What a layer reads and writes for a micro-batch, roughly."""
  return cost.weight_bytes + cost.activation_bytes


def _swept_bytes(other_bytes: int) -> int:
  """What is read between passes: a power of two, so that files can be shared.

  Args:
    other_bytes: What the other layers use.
  """
  if other_bytes < _LEAST_SWEPT_BYTES:
    return 0
  return min(1 << (other_bytes.bit_length() - 1), _MOST_SWEPT_BYTES)


def _measured(
  profile: LayerProfile, stored: _MeasuredFile, swept_bytes: int
) -> measure.Times:
  """The times of a layer, from the file or measured now."""
  kind = _device_kind()
  what = as_text(profile.params), repr(profile.key), kind, tf.__version__
  # Memory addresses do not count.
  texts = [
    re.sub(r' at 0x[0-9a-f]+', '', text)
    for text in (*what, f'{swept_bytes} bytes swept')
  ]
  key = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]
  about = {
    'layer': profile.params.cls.__name__,
    'given': str(profile.call),
    'device': kind,
  }
  return stored.get(key) or stored.add(
    key, measure.measure(profile, swept_bytes), about
  )


def _device_kind() -> str:
  """The type of the device where TensorFlow runs things, a GPU's model too."""
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    return 'CPU'
  details = tf.config.experimental.get_device_details(gpus[0])
  return f'GPU {details.get("device_name", "")}'.strip()
