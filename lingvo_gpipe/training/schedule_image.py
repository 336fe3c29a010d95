# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws a schedule as an image: a row a device, a column a time slot.

Forward tasks are blue, backward ones orange, weight gradients green; the shade
goes from light to dark with the micro-batch. White is the bubble.
"""

import dataclasses
import struct
import zlib

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import TaskKind

_ROW = 24  # Pixels of a device's row, one of which is a line.
_MAX_SLOT = 24
_MAX_WIDTH = 2048
_COLOURS = {  # Of the first and of the last micro-batch.
  TaskKind.FORWARD: ((158, 202, 255), (8, 48, 140)),
  TaskKind.BACKWARD: ((255, 204, 128), (191, 54, 12)),
  TaskKind.WEIGHT_GRADIENT: ((178, 223, 138), (27, 94, 32)),
}


@dataclasses.dataclass(frozen=True)
class Image:
  """An image in PNG: its size in pixels, and its bytes."""

  width: int
  height: int
  png: bytes


def draw(schedule):
  """Draws a Schedule, each task one slot long; returns an `Image`."""
  timeline = schedules.simulate(schedule)
  slots = int(max(timeline.end.values()))
  slot = max(1, min(_MAX_SLOT, _MAX_WIDTH // slots))
  pixels = np.full(
    [_ROW * schedule.num_devices + 1, slot * slots + 1, 3], 255, np.uint8
  )
  pixels[::_ROW] = 200
  line = 1 if slot > 3 else 0
  for device, tasks in enumerate(schedule.device_tasks):
    rows = slice(_ROW * device + 1, _ROW * (device + 1))
    for task in tasks:
      start, end = (
        int(at[task]) * slot for at in (timeline.start, timeline.end)
      )
      pixels[rows, start + line : end] = _colour(task, schedule)
  return Image(pixels.shape[1], pixels.shape[0], encode_png(pixels))


def _colour(task, schedule):
  light, dark = (np.array(colour) for colour in _COLOURS[task.kind])
  share = task.micro_batch / max(schedule.num_micro_batches - 1, 1)
  return np.round(light + (dark - light) * share).astype(np.uint8)


def encode_png(pixels):
  """Encodes uint8 [height, width, 3], red, green and blue, as PNG.

  Source: W3C, Portable Network Graphics (PNG) Specification, sections 5 and 11.
  """
  height, width, _ = pixels.shape
  # Each row begins with its filter: none.
  rows = np.concatenate(
    [np.zeros([height, 1], np.uint8), pixels.reshape(height, -1)], axis=1
  )
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    _chunk(kind, data)
    for kind, data in (
      (b'IHDR', header),
      (b'IDAT', zlib.compress(rows.tobytes())),
      (b'IEND', b''),
    )
  )


def _chunk(kind, data):
  crc = zlib.crc32(kind + data)
  return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)
