# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPipe's schedule: fill the pipeline with forwards, then drain it."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import slot_filler
from lingvo_gpipe.schedules import task as task_lib


def in_flight_limits(
  cell_devices: Sequence[int], num_micro_batches: int
) -> list[int]:
  """How many micro-batches each cell may stash: all of them."""
  return [num_micro_batches] * len(cell_devices)


def gpipe(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """Every device runs all its forwards, then all its backwards.

  Huang et al., "GPipe: Efficient Training of Giant Neural Networks using
  Pipeline Parallelism", arXiv:1811.06965. K = 3, M = 4, one cell a device:

  ```
  device 0  F0 F1 F2 F3  .  .  .  . B0 B1 B2 B3
  device 1   . F0 F1 F2 F3  .  . B0 B1 B2 B3  .
  device 2   .  . F0 F1 F2 F3 B0 B1 B2 B3  .  .
  ```

  The backwards run by ascending micro-batch, like those of every schedule here
  (the paper's figure draws them descending; the time is the same). A cell adds
  up its weight gradients in the order of its backwards, so one order for all
  schedules is what makes their gradients equal to the last bit.

  Each cell stashes all M micro-batches.

  Args:
    cell_devices: The device of each cell; cells may share devices in any way.
    num_micro_batches: M, at least 1.
    first_backward: The first cell with backward tasks.

  Returns:
    The schedule. All its forwards come before all its backwards in any order
    that respects it, so the loss may be computed outside the pipeline.
  """
  filler = slot_filler.SlotFiller(
    cell_devices,
    num_micro_batches,
    in_flight_limits=in_flight_limits(cell_devices, num_micro_batches),
    forwards_first=True,
    first_backward=first_backward,
  )
  return task_lib.Schedule(
    'gpipe',
    num_micro_batches,
    tuple(cell_devices),
    filler.fill(),
    first_backward,
  )
