# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pipeline schedules: who runs what, in which order. Pure Python.

`make_schedule` builds a schedule by name, `validate` checks one, `simulate`
times it and `grid` draws it.
"""

import operator
from collections.abc import Callable, Sequence

from lingvo_gpipe.schedules import gpipe as _gpipe
from lingvo_gpipe.schedules import one_f_one_b as _one_f_one_b
from lingvo_gpipe.schedules.forward_only import forward_only as _forward_only
from lingvo_gpipe.schedules.grid import grid
from lingvo_gpipe.schedules.recompute import (
  RECOMPUTE_POLICIES,
  check_choice,
  check_recompute,
  most_recomputed,
  recomputed,
)
from lingvo_gpipe.schedules.simulate import Timeline, simulate
from lingvo_gpipe.schedules.task import (
  Schedule,
  ScheduleError,
  Task,
  TaskKind,
)
from lingvo_gpipe.schedules.validate import validate

__all__ = [
  'RECOMPUTE_POLICIES',
  'SCHEDULE_NAMES',
  'Schedule',
  'ScheduleError',
  'Task',
  'TaskKind',
  'Timeline',
  'check_name',
  'check_recompute',
  'count_recomputed',
  'grid',
  'in_flight_limits',
  'make_schedule',
  'recomputed',
  'simulate',
  'validate',
]

_BUILDERS: dict[str, Callable[[Sequence[int], int, int], Schedule]] = {
  'gpipe': _gpipe.gpipe,
  '1f1b': _one_f_one_b.one_f_one_b,
}
_LIMITS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
  'gpipe': _gpipe.in_flight_limits,
  '1f1b': _one_f_one_b.in_flight_limits,
}

SCHEDULE_NAMES = tuple(_BUILDERS)

# Schedules of more cells times micro-batches are not built to be counted in.
_MAX_COUNTED = 100_000


def make_schedule(
  name: str,
  cell_devices: Sequence[int],
  num_micro_batches: int,
  *,
  forward_only: bool = False,
  first_backward: int = 0,
) -> Schedule:
  """Builds a schedule.

  Every schedule here is deadlock-free for any arrangement of cells on devices,
  and runs each cell's forwards, and its backwards, by ascending micro-batch.

  Args:
    name: One of SCHEDULE_NAMES.
    cell_devices: For each of the K cells in order, the index of its device,
      from 0. Cells may share devices in any way; a device left out gets an
      empty row.
    num_micro_batches: M, at least 1. It may be smaller than K.
    forward_only: Whether to leave the backwards out, for evaluation. The
      result is then the same for every name, and is called 'forward_only'.
    first_backward: The first cell with backward tasks: nothing is trained in
      those before it. K leaves all backwards out.

  Raises:
    ValueError: An argument is not one of the allowed values.
  """
  devices, num_micro_batches = _checked(name, cell_devices, num_micro_batches)
  if not 0 <= first_backward <= len(devices):
    raise ValueError(
      f'first_backward is {first_backward}; it must be from 0 to the number of '
      f'cells, {len(devices)}.'
    )
  if forward_only or first_backward == len(devices):
    return _forward_only(devices, num_micro_batches)
  return _BUILDERS[name](devices, num_micro_batches, first_backward)


def in_flight_limits(
  name: str, cell_devices: Sequence[int], num_micro_batches: int
) -> list[int]:
  """How many micro-batches a schedule lets each cell stash.

  Where no two cells share a device each cell comes to stash as many as its
  limit, which depends only on the micro-batches and the cells after it.
  Otherwise it may stay below; `simulate` counts.

  Args:
    name: One of SCHEDULE_NAMES.
    cell_devices: As for `make_schedule`.
    num_micro_batches: M, at least 1.

  Raises:
    ValueError: An argument is not one of the allowed values.
  """
  devices, num_micro_batches = _checked(name, cell_devices, num_micro_batches)
  return _LIMITS[name](devices, num_micro_batches)


def count_recomputed(
  name: str,
  cell_devices: Sequence[int],
  num_micro_batches: int,
  policy: str,
) -> tuple[int, ...]:
  """How many micro-batches each cell recomputes, see `recomputed`.

  Args:
    name: One of SCHEDULE_NAMES.
    cell_devices: As for `make_schedule`.
    num_micro_batches: M, at least 1.
    policy: One of RECOMPUTE_POLICIES.

  Returns:
    The numbers. Where cells share devices they are counted in the schedule,
    unless it is so long that this would take seconds: then the last cell's may
    be too large.

  Raises:
    ValueError: An argument is not one of the allowed values.
  """
  limits = in_flight_limits(name, cell_devices, num_micro_batches)
  most = most_recomputed(num_micro_batches, policy)
  num_cells = len(cell_devices)
  share = len(set(cell_devices)) < num_cells
  if share and num_cells * num_micro_batches <= _MAX_COUNTED:
    schedule = make_schedule(name, cell_devices, num_micro_batches)
    return tuple(map(len, recomputed(schedule, policy)))
  # A cell with a device to itself, and room for one micro-batch, has nothing
  # to do but that one's backward after its forward.
  is_direct = not share and limits[-1] == 1 < num_micro_batches
  return (most,) * (num_cells - 1) + (0 if is_direct else most,)


def check_name(name: str) -> None:
  """Raises ValueError if there is no schedule of this name."""
  check_choice('schedule', name, SCHEDULE_NAMES)


def _checked(
  name: str, cell_devices: Sequence[int], num_micro_batches: int
) -> tuple[tuple[int, ...], int]:
  """The devices and the number as plain ints, once all three are allowed."""
  check_name(name)
  devices = tuple(operator.index(device) for device in cell_devices)
  if not devices:
    raise ValueError('cell_devices is empty; a pipeline has at least one cell.')
  if min(devices) < 0:
    raise ValueError(
      f'cell_devices is {list(devices)}; device indices must be 0 or more.'
    )
  num_micro_batches = operator.index(num_micro_batches)
  if num_micro_batches < 1:
    raise ValueError(
      f'num_micro_batches is {num_micro_batches}; it must be 1 or more.'
    )
  return devices, num_micro_batches
