# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""ZB-H1: 1F1B whose weight gradients fill the bubble."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import slot_filler
from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.one_f_one_b import in_flight_limits
from lingvo_gpipe.schedules.row import Row


def zb_h1(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> task_lib.Schedule:
  """1F1B with the backward pass in two.

  Qi et al., "Zero Bubble Pipeline Parallelism", arXiv:2401.10241, section 2.1.
  A backward task (B) computes a cell's input gradients alone, for which the
  cell before waits; its weight gradients (W) come later. K = 3, M = 4:

  ```
  device 0  F0 F1 F2  .  . B0 W0 F3 B1 W1 B2 W2 B3 W3
  device 1   . F0 F1  . B0 F2 B1 W0 F3 B2 W1 B3 W2 W3
  device 2   .  . F0 B0 F1 B1 F2 B2 W0 F3 B3 W1 W2 W3
  ```

  With M at least K the bubble is (K - 1)(F + B - W), where 1F1B has
  (K - 1)(F + B + W); a device stashes at most K micro-batches, as 1F1B's first.

  Args:
    cell_devices: The device of each cell; cells may share devices in any way.
      Then the backward tasks come as early as they can, and the weight
      gradients where a device would wait or has no room.
    num_micro_batches: M, at least 1.
    first_backward: The first cell with backward tasks.
  """
  num_cells = len(cell_devices)
  if len(set(cell_devices)) == num_cells:
    rows: list[Sequence[task_lib.Task]] = [()] * (max(cell_devices) + 1)
    for k, device in enumerate(cell_devices):
      rows[device] = _row(k, num_cells, num_micro_batches)
  else:
    limits = in_flight_limits(cell_devices, num_micro_batches)
    filler = slot_filler.SlotFiller(
      cell_devices,
      num_micro_batches,
      in_flight_limits=limits,
      forwards_first=False,
      first_backward=first_backward,
      stash_limits=[limits[0]] * num_cells,
    )
    rows = list(filler.fill())
  return task_lib.Schedule(
    'zb_h1',
    num_micro_batches,
    tuple(cell_devices),
    task_lib.without_frozen(rows, first_backward),
    first_backward,
  )


def _row(k: int, num_cells: int, num_micro_batches: int) -> list[task_lib.Task]:
  """The tasks of a device that holds cell k alone."""
  row = Row({'': k}, num_micro_batches)
  row.add('F', times=num_cells - k)
  row.add('B', 'F', times=k)
  row.add('B', 'W', 'F', times=num_micro_batches)
  return row.tasks
