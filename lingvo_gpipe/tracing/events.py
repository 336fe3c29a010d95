# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow recorded of one step, as plain data.

Read from the step_stats of a `RunMetadata`, which have the same form in one
process and over gRPC: for each device the ops that ran, with start and end by
the clock of the device's process. Over gRPC there are also entries for the
tensors that were fetched from other processes, told apart by their label:

  [4096B] [812.3Mb/s] edge_84_net/cell_1_B1/PartitionedCall from A to B
  [0.8MB] [1.2Gb/s] edge_85_net/cell_1_B1/PartitionedCall from A to B
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

_TRANSFER = re.compile(
  r'\[(?P<size>[\d.]+)(?P<unit>M?B)\] .*?edge_\d+_(?P<op>\S+) '
  r'from \S+ to (?P<target>\S+)'
)
_SIZES = {'B': 1, 'MB': 2**20}
_RECV = 'RecvTensor'
_NANO = 1e-9


class TraceError(RuntimeError):
  """A trace that cannot be read."""


@dataclasses.dataclass(frozen=True)
class OpEvent:
  """An op that ran. Times are in seconds, by the clock of its process."""

  name: str
  device: str
  start: float
  end: float


@dataclasses.dataclass(frozen=True)
class TransferEvent:
  """A tensor that went from one process to another.

  Attributes:
    op: The op that made it.
    target: The device that it went to, whose process has the clock.
    end: When it was there, in seconds.
    num_bytes: Its size on the wire.
  """

  op: str
  target: str
  end: float
  num_bytes: int


@dataclasses.dataclass(frozen=True)
class MemorySample:
  """The resident memory of a process at a time, in seconds as clients know."""

  process: str
  time: float
  num_bytes: int


@dataclasses.dataclass(frozen=True)
class StepEvents:
  """All events of one step, in no order.

  Times are in seconds after the client asked for the step.
  """

  ops: tuple[OpEvent, ...]
  transfers: tuple[TransferEvent, ...]
  memory: tuple[MemorySample, ...] = ()

  def moved(self, shifts: Mapping[str, float], by: float) -> 'StepEvents':
    """The events in other times."""

    def shift(device: str) -> float:
      return by + shifts.get(process_of(device), 0.0)

    return StepEvents(
      tuple(
        dataclasses.replace(
          op, start=op.start + shift(op.device), end=op.end + shift(op.device)
        )
        for op in self.ops
      ),
      tuple(
        dataclasses.replace(t, end=t.end + shift(t.target))
        for t in self.transfers
      ),
      tuple(dataclasses.replace(s, time=s.time + by) for s in self.memory),
    )


def process_of(device: str) -> str:
  """'/job:worker/replica:0/task:1' of a device's full name."""
  return device.rpartition('/device:')[0]


def read(step_stats: Any, started: float) -> StepEvents:
  """Reads a StepStats message.

  Args:
    started: When the client asked for the step, in seconds of the epoch.
  """
  origin = round(started * 1e9)
  ops: list[OpEvent] = []
  transfers: list[TransferEvent] = []
  for of_device in step_stats.dev_stats:
    for node in of_device.node_stats:
      start, end = _span(node, origin)
      if node.node_name != _RECV:
        ops.append(OpEvent(node.node_name, of_device.device, start, end))
        continue
      match = _TRANSFER.search(node.timeline_label)
      if match:
        size = round(float(match['size']) * _SIZES[match['unit']])
        transfers.append(TransferEvent(match['op'], match['target'], end, size))
  return StepEvents(tuple(ops), tuple(transfers))


def _span(node: Any, origin: int) -> tuple[float, float]:
  """When a node started and ended, in seconds after `origin` nanoseconds."""
  if node.all_start_nanos:
    begin = node.all_start_nanos - origin
    first, last = node.op_start_rel_nanos, node.op_end_rel_nanos
  else:  # Entries for transfers have microseconds only.
    begin = 1000 * node.all_start_micros - origin
    first = 1000 * node.op_start_rel_micros
    last = 1000 * node.op_end_rel_micros
  return (begin + first) * _NANO, (begin + max(first, last)) * _NANO
