# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow recorded of one step, as plain data.

The step_stats of a `RunMetadata` have, for each device, the ops that ran, by
the clock of the device's process. Tensors that came over gRPC have entries,
too, with a label:

  [4096B] [812.3Mb/s] edge_84_net/cell_1_B1/PartitionedCall from A to B
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

_TRANSFER = re.compile(r'edge_\d+_(?P<op>\S+) from \S+ to (?P<target>\S+)')

# For each process, at which times how many bytes were resident.
Memory: TypeAlias = Mapping[str, Sequence[tuple[float, int]]]


class Op(NamedTuple):
  name: str
  device: str
  start: float
  end: float


class Transfer(NamedTuple):
  """A result of `op` that came to `device` from another process."""

  op: str
  device: str
  end: float


class StepEvents(NamedTuple):
  """All events of a step; in seconds after the client asked for the step."""

  ops: Sequence[Op]
  transfers: Sequence[Transfer]
  memory: Memory = {}

  def moved(self, shifts: Mapping[str, float], by: float) -> 'StepEvents':
    """All events later by so much, and those of a process by its shift."""

    def shift(device: str) -> float:
      return by + shifts.get(process_of(device), 0.0)

    return StepEvents(
      [
        op._replace(
          start=op.start + shift(op.device), end=op.end + shift(op.device)
        )
        for op in self.ops
      ],
      [t._replace(end=t.end + shift(t.device)) for t in self.transfers],
      {
        process: [(time + by, num_bytes) for time, num_bytes in samples]
        for process, samples in self.memory.items()
      },
    )


def process_of(device: str) -> str:
  """'/job:worker/replica:0/task:1' of a device's full name."""
  return device.rpartition('/device:')[0]


def read(step_stats: Any, started: float) -> StepEvents:
  """Reads the StepStats of a step that started then, in epoch seconds."""
  origin = round(started * 1e9)
  ops, transfers = [], []
  for of_device in step_stats.dev_stats:
    for node in of_device.node_stats:
      start, end = _span(node, origin)
      if node.node_name != 'RecvTensor':
        ops.append(Op(node.node_name, of_device.device, start, end))
      elif match := _TRANSFER.search(node.timeline_label):
        transfers.append(Transfer(match['op'], match['target'], end))
  return StepEvents(ops, transfers)


def _span(node: Any, origin: int) -> tuple[float, float]:
  """When a node started and ended, in seconds after `origin` nanoseconds."""
  if node.all_start_nanos:
    begin = node.all_start_nanos - origin
    first, last = node.op_start_rel_nanos, node.op_end_rel_nanos
  else:  # Entries for transfers have microseconds only.
    begin = 1000 * node.all_start_micros - origin
    first = 1000 * node.op_start_rel_micros
    last = 1000 * node.op_end_rel_micros
  return (begin + first) * 1e-9, (begin + max(first, last)) * 1e-9
