# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What layers take when they run, kept in a file."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import cost_session, measure
from lingvo_gpipe.costing.costs_file import CostsFile
from lingvo_gpipe.costing.layer_profile import LayerProfile
from lingvo_gpipe.costing.weights import ParamsCache, as_text, in_build_thread
from lingvo_gpipe.cutting.cost_model import LayerCost

# Reading less would not flush the caches, and reading more would not help.
_LEAST_SWEPT_BYTES, _MOST_SWEPT_BYTES = 2**18, 2**26


def _times_of(entry: Mapping[str, Any]) -> measure.Times:
  # Older files have no share.
  return measure.Times(
    entry['forward'], entry['backward'], entry.get('weight_share')
  )


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
  stored = CostsFile(file)
  all_times = in_build_thread(lambda: _measure_all(profiles, stored))
  return [
    dataclasses.replace(profile.cost, **dataclasses.asdict(times))
    for profile, times in zip(profiles, all_times, strict=True)
  ]


def _measure_all(
  profiles: Sequence[LayerProfile], stored: CostsFile
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
  return cost.weight_bytes + cost.activation_bytes + cost.transient_bytes


def _swept_bytes(other_bytes: int) -> int:
  """What is read between passes: a power of two, so that files can be shared.

  Args:
    other_bytes: What the other layers use.
  """
  if other_bytes < _LEAST_SWEPT_BYTES:
    return 0
  return min(1 << (other_bytes.bit_length() - 1), _MOST_SWEPT_BYTES)


def _measured(
  profile: LayerProfile, stored: CostsFile, swept_bytes: int
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
  known = stored.get('layers', key)
  if known is None:
    times = measure.measure(profile, swept_bytes)
    entry = {**about, **dataclasses.asdict(times)}
    known = stored.add('layers', key, entry)
  return _times_of(known)


def _device_kind() -> str:
  """The type of the device where TensorFlow runs things, a GPU's model too."""
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    return 'CPU'
  details = tf.config.experimental.get_device_details(gpus[0])
  return f'GPU {details.get("device_name", "")}'.strip()
