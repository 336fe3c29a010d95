# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Interleaved 1F1B: several cells a device fill the pipeline sooner."""

from collections.abc import Iterator, Sequence

from lingvo_gpipe.schedules import task as task_lib


def interleaved_1f1b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """1F1B over rounds: micro-batches pass the devices V times.

  Narayanan et al., "Efficient Large-Scale Language Model Training on GPU
  Clusters Using Megatron-LM", arXiv:2104.04473, section 2.2. Micro-batches go
  in groups of about K: a group passes a device's first cell, then its second,
  and so on; then comes the next group. Two devices, two cells each, M = 4:

  ```
  device 0 F0.0 F0.1 F2.0 F2.1 F0.2    . F0.3 B2.0 ...
  device 1    . F1.0 F1.1 F3.0 B3.0 F3.1 B3.1 F1.2 ...
  ```

  With M at least K the bubble is (K - 1)(F + B) of one cell: a V-th of 1F1B's
  with cells V times as large. A device stashes more, at most
  (V - 1) G + 2 (K - 1 - k) + 1 micro-batches of one cell, for groups of G.

  Args:
    cell_devices: Cell c is on device c mod K.
    num_micro_batches: M, at least 1; unlike in other programs it need not be a
      multiple of K.
    first_backward: The first cell with backward tasks.
  """
  num_devices = max(cell_devices) + 1
  rounds = len(cell_devices) // num_devices
  sizes = _group_sizes(num_micro_batches, num_devices)
  rows = []
  for device in range(num_devices):
    cells = range(device, len(cell_devices), num_devices)
    forwards = list(_tasks(task_lib.TaskKind.FORWARD, cells, sizes))
    backwards = list(_tasks(task_lib.TaskKind.BACKWARD, cells[::-1], sizes))
    warm_up = (rounds - 1) * sizes[0] + 2 * (num_devices - 1 - device)
    warm_up = min(warm_up, len(forwards))
    row = forwards[:warm_up]
    for forward, backward in zip(forwards[warm_up:], backwards, strict=False):
      row += [forward, backward]
    row += backwards[len(forwards) - warm_up :]
    rows.append(row)
  return task_lib.Schedule(
    'interleaved_1f1b',
    num_micro_batches,
    tuple(cell_devices),
    task_lib.without_frozen(rows, first_backward),
    first_backward,
  )


def _group_sizes(num_micro_batches: int, num_devices: int) -> list[int]:
  """Sizes of about K that add up to M, larger ones first.

  A small group before a larger one would deadlock: the larger one's forwards
  would wait for backwards that come after them.
  """
  num_groups = max(1, num_micro_batches // num_devices)
  least, larger = divmod(num_micro_batches, num_groups)
  return [least + (group < larger) for group in range(num_groups)]


def _tasks(
  kind: task_lib.TaskKind, cells: Sequence[int], sizes: Sequence[int]
) -> Iterator[task_lib.Task]:
  """The tasks of a device's cells, group by group, then cell by cell."""
  start = 0
  for size in sizes:
    for cell in cells:
      for m in range(start, start + size):
        yield task_lib.Task(kind, cell, m)
    start += size
