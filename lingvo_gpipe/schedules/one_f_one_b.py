# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""1F1B: a backward as soon as one can start, and a bound on what is stashed."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import slot_filler
from lingvo_gpipe.schedules import task as task_lib


def in_flight_limits(
  cell_devices: Sequence[int], num_micro_batches: int
) -> list[int]:
  """How many micro-batches each cell may hold between forward and backward.

  Cell k's limit is the smaller of M and the number of stretches of cells on
  one device from cell k to the last:

  ```
  cell       0  1  2  3        0  1  2  3        0  1  2  3
  device     0  1  2  3        0  0  1  1        0  1  0  1
  limit      4  3  2  1        2  2  1  1        4  3  2  1
  ```

  With one cell a device that is min(M, K - k), and never more than that.
  Neighbouring cells on one device cannot overlap, so a micro-batch passes them
  as it would pass one cell, and holding more micro-batches would save no time.
  """
  limits = [0] * len(cell_devices)
  stretches = 0
  for k in reversed(range(len(cell_devices))):
    if k == len(cell_devices) - 1 or cell_devices[k] != cell_devices[k + 1]:
      stretches += 1
    limits[k] = min(num_micro_batches, stretches)
  return limits


def one_f_one_b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """After a warm-up each device alternates one forward and one backward.

  Narayanan et al., "Efficient Large-Scale Language Model Training on GPU
  Clusters Using Megatron-LM", arXiv:2104.04473 (the schedule with flushes; it
  goes back to PipeDream-Flush, arXiv:2006.09503). K = 3, M = 4, one cell a
  device:

  ```
  device 0  F0 F1 F2  .  . B0 F3 B1  . B2  . B3
  device 1   . F0 F1  . B0 F2 B1 F3 B2  . B3  .
  device 2   .  . F0 B0 F1 B1 F2 B2 F3 B3  .  .
  ```

  It takes as long as GPipe's schedule, but cell k stashes at most
  min(M, K - k) micro-batches in place of M. `in_flight_limits` says what the
  limit is where devices hold several cells.

  Args:
    cell_devices: The device of each cell; cells may share devices in any way.
    num_micro_batches: M, at least 1.
    first_backward: The first cell with backward tasks.

  Returns:
    The schedule. Backwards begin before the last forwards, so the loss must be
    computed inside the pipeline, in its last cell.
  """
  filler = slot_filler.SlotFiller(
    cell_devices,
    num_micro_batches,
    in_flight_limits=in_flight_limits(cell_devices, num_micro_batches),
    forwards_first=False,
    first_backward=first_backward,
  )
  return task_lib.Schedule(
    '1f1b',
    num_micro_batches,
    tuple(cell_devices),
    filler.fill(),
    first_backward,
  )
