# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The forward-only schedule, for evaluation and inference."""

from collections.abc import Sequence

from lingvo_gpipe.schedules import slot_filler
from lingvo_gpipe.schedules import task as task_lib


def forward_only(
  cell_devices: Sequence[int], num_micro_batches: int
) -> task_lib.Schedule:
  """Every device runs its forwards; nothing is stashed.

  Args:
    cell_devices: The device of each cell; cells may share devices in any way.
    num_micro_batches: M, at least 1.

  Returns:
    The schedule, which is the first half of GPipe's.
  """
  filler = slot_filler.SlotFiller(
    cell_devices,
    num_micro_batches,
    in_flight_limits=[num_micro_batches] * len(cell_devices),
    forwards_first=True,
    first_backward=len(cell_devices),
  )
  return task_lib.Schedule(
    'forward_only', num_micro_batches, tuple(cell_devices), filler.fill()
  )
