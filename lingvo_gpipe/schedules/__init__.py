# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pipeline schedules: who runs what, in which order. Pure Python.

`make_schedule` builds a schedule by name, `register_schedule` gives one of your
own a name, `validate` checks one, `simulate` times it and `grid` draws it.
"""

import functools
import operator
from collections.abc import Sequence

from lingvo_gpipe.schedules import one_f_one_b as _one_f_one_b
from lingvo_gpipe.schedules import placement as _placement
from lingvo_gpipe.schedules import registry as _registry
from lingvo_gpipe.schedules import schedule_file
from lingvo_gpipe.schedules.best_order import BestOrder, best_order, known_order
from lingvo_gpipe.schedules.forward_only import forward_only as _forward_only
from lingvo_gpipe.schedules.grid import grid
from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.placement import cells_per_device, place
from lingvo_gpipe.schedules.recompute import (
  FIT,
  RECOMPUTE_POLICIES,
  check_choice,
  check_recompute,
  most_recomputed,
  recomputed,
)
from lingvo_gpipe.schedules.registry import (
  SCHEDULE_NAMES,
  register_schedule,
)
from lingvo_gpipe.schedules.schedule_file import from_json, read, to_json
from lingvo_gpipe.schedules.simulate import Timeline, simulate
from lingvo_gpipe.schedules.stash import device_peak_stash, peak_stash
from lingvo_gpipe.schedules.task import (
  Schedule,
  ScheduleError,
  Task,
  TaskKind,
)
from lingvo_gpipe.schedules.validate import validate

__all__ = [
  'FIT',
  'FLEXIBLE_NAMES',
  'PLAIN_NAMES',
  'RECOMPUTE_POLICIES',
  'SCHEDULE_NAMES',
  'WHOLE_NAMES',
  'BestOrder',
  'OrderProblem',
  'Schedule',
  'ScheduleError',
  'Task',
  'TaskKind',
  'Timeline',
  'cells_per_device',
  'check_name',
  'check_recompute',
  'count_recomputed',
  'find_best_order',
  'from_json',
  'grid',
  'in_flight_limits',
  'limits_of_1f1b',
  'make_schedule',
  'place',
  'read',
  'recomputed',
  'register_schedule',
  'schedule_names',
  'simulate',
  'to_json',
  'validate',
]

# Those with whole backward passes and a cell a device: what is compared where
# all would be too many.
PLAIN_NAMES = ('gpipe', '1f1b')
# Those whose backward tasks are whole.
WHOLE_NAMES = (*PLAIN_NAMES, 'interleaved_1f1b')
# Those that can have cells on any devices.
FLEXIBLE_NAMES = tuple(filter(_placement.is_flexible, SCHEDULE_NAMES))

# Schedules of more cells times micro-batches are not built to be counted in.
_MAX_COUNTED = 100_000


def make_schedule(
  name: str,
  cell_devices: Sequence[int],
  num_micro_batches: int,
  *,
  forward_only: bool = False,
  first_backward: int = 0,
  costs: OrderProblem | None = None,
) -> Schedule:
  """Builds a schedule.

  Every schedule here is free of deadlocks, and runs each cell's tasks of one
  kind by ascending micro-batch.

  Args:
    name: One of `schedule_names`, or 'file:PATH' for one that a file has; see
      `schedule_file`.
    cell_devices: For each of the K cells in order, the index of its device,
      from 0; see `place`. Under FLEXIBLE_NAMES, cells may share devices in any
      way; a device left out gets an empty row.
    num_micro_batches: M, at least 1. It may be smaller than K.
    forward_only: Whether to leave the backwards out, for evaluation. The
      result is then the same for every name, and is called 'forward_only'.
    first_backward: The first cell with backward tasks: nothing is trained in
      those before it. K leaves all backwards out.
    costs: What 'auto' orders the tasks by: times, memory and its limits, for
      the same cells, devices and micro-batches. By default all tasks take the
      same time, and no device stashes more than 1F1B's first.

  Raises:
    ValueError: An argument is not one of the allowed values.
    ScheduleError: 'auto' finds no order that fits into the costs' memory; or
      what a file or a user's builder brings cannot run.
  """
  devices, num_micro_batches = _checked(name, cell_devices, num_micro_batches)
  if not 0 <= first_backward <= len(devices):
    raise ValueError(
      f'first_backward is {first_backward}; it must be from 0 to the number of '
      f'cells, {len(devices)}.'
    )
  if forward_only or first_backward == len(devices):
    return _forward_only(devices, num_micro_batches)
  _placement.check(name, devices)
  if name == 'auto':
    costs = costs or _equal_costs(devices, num_micro_batches, first_backward)
    schedule = find_best_order(costs).schedule
  elif name in _registry.BUILDERS:
    return _built(name, devices, num_micro_batches, first_backward)
  else:
    schedule = _registry.trained_from(
      name, _brought(name, devices, num_micro_batches), first_backward
    )
  validate(schedule)
  return schedule


@functools.lru_cache(maxsize=32)
def _built(
  name: str,
  devices: tuple[int, ...],
  num_micro_batches: int,
  first_backward: int,
) -> Schedule:
  """A schedule of this package; a plan asks for the same one often."""
  build = _registry.BUILDERS[name]
  schedule = build(devices, num_micro_batches, first_backward)
  validate(schedule)
  return schedule


def _brought(
  name: str, devices: Sequence[int], num_micro_batches: int
) -> Schedule:
  """What a file or a user's builder has, as it is."""
  if not name.startswith(schedule_file.PREFIX):
    return _registry.build_registered(name, devices, num_micro_batches)
  path = name.removeprefix(schedule_file.PREFIX)
  schedule = schedule_file.read(path)
  _registry.check_sizes(path, schedule, devices, num_micro_batches)
  return schedule


@functools.lru_cache(maxsize=64)
def find_best_order(problem: OrderProblem) -> BestOrder:
  """The schedule 'auto', and how far it may be from the best there is.

  Raises:
    ScheduleError: No order fits into the memory that there is, or the one that
      is known is none for this problem.
  """
  if problem.known is not None:
    return known_order(problem, problem.known)
  named = []
  for name, build in _registry.BUILDERS.items():
    if _placement.fits(name, problem.cell_devices):
      named.append(
        build(
          problem.cell_devices,
          problem.num_micro_batches,
          problem.first_backward,
        )
      )
  return best_order(problem, named)


def _equal_costs(
  devices: tuple[int, ...], num_micro_batches: int, first_backward: int
) -> OrderProblem:
  ones = (1,) * len(devices)
  limits = limits_of_1f1b(devices, num_micro_batches, first_backward)
  return OrderProblem(
    devices,
    num_micro_batches,
    ones,
    ones,
    ones,
    limits=limits,
    first_backward=first_backward,
  )


def limits_of_1f1b(
  cell_devices: Sequence[int], num_micro_batches: int, first_backward: int = 0
) -> tuple[int, ...]:
  """For each device, as much as any device stashes under 1F1B.

  Args:
    cell_devices: As for `make_schedule`.
    num_micro_batches: M.
    first_backward: Likewise.
  """
  schedule = _one_f_one_b.one_f_one_b(
    cell_devices, num_micro_batches, first_backward
  )
  peaks = device_peak_stash(schedule)
  return (max(peaks),) * len(peaks)


def in_flight_limits(
  name: str, cell_devices: Sequence[int], num_micro_batches: int
) -> list[int]:
  """How many micro-batches a schedule lets each cell stash at most.

  Where no two cells share a device each cell comes to stash as many as its
  limit ('auto' perhaps fewer), which depends only on the micro-batches and the
  cells after it. Otherwise it may stay below; `simulate` counts.

  Args:
    name: As for `make_schedule`.
    cell_devices: As for `make_schedule`.
    num_micro_batches: M, at least 1.

  Raises:
    ValueError: An argument is not one of the allowed values.
  """
  devices, most = _checked(name, cell_devices, num_micro_batches)
  if name not in SCHEDULE_NAMES:
    return list(peak_stash(counted(name, devices, most)))
  share = len(set(devices)) < len(devices)
  if name == 'gpipe' or (share and name not in ('1f1b', 'zb_h1')):
    return [most] * len(devices)
  limits = _one_f_one_b.in_flight_limits(devices, most)
  if name == '1f1b':
    return limits
  if name == 'interleaved_1f1b':
    return [min(most, 2 * limit - 1) for limit in limits]
  return limits[:1] * len(devices)


def count_recomputed(
  name: str,
  cell_devices: Sequence[int],
  num_micro_batches: int,
  policy: str,
) -> tuple[int, ...]:
  """How many micro-batches each cell recomputes, see `recomputed`.

  Args:
    name: As for `make_schedule`.
    cell_devices: As for `make_schedule`.
    num_micro_batches: M, at least 1.
    policy: One of RECOMPUTE_POLICIES.

  Returns:
    The numbers. Where cells share devices they are counted in the schedule,
    unless it takes seconds to make: then, and under 'auto', the last cell's may
    be too large.

  Raises:
    ValueError: An argument is not one of the allowed values.
  """
  limits = in_flight_limits(name, cell_devices, num_micro_batches)
  most = most_recomputed(num_micro_batches, policy)
  num_cells = len(cell_devices)
  share = len(set(cell_devices)) < num_cells
  is_counted = name != 'auto' and num_cells * num_micro_batches <= _MAX_COUNTED
  if name not in SCHEDULE_NAMES or (share and is_counted):
    schedule = counted(name, cell_devices, num_micro_batches)
    return tuple(map(len, recomputed(schedule, policy)))
  # A cell with a device to itself, and room for one micro-batch between F and
  # B, has nothing to do but that one's backward after its forward.
  is_direct = name == 'zb_h1' or limits[-1] == 1
  is_direct = is_direct and not share and num_micro_batches > 1
  return (most,) * (num_cells - 1) + (0 if is_direct else most,)


def counted(
  name: str, cell_devices: Sequence[int], num_micro_batches: int
) -> Schedule:
  """A schedule to count in, for names but 'auto'.

  In one that is brought some cells need not be trained.
  """
  if name in SCHEDULE_NAMES:
    return make_schedule(name, cell_devices, num_micro_batches)
  schedule = _brought(name, cell_devices, num_micro_batches)
  validate(schedule)
  return schedule


def schedule_names() -> tuple[str, ...]:
  """All names that there are, registered ones last."""
  return (*SCHEDULE_NAMES, *_registry.registered)


def check_name(name: str) -> None:
  """Raises ValueError if there is no schedule of this name."""
  if str(name).startswith(schedule_file.PREFIX):
    schedule_file.read(name.removeprefix(schedule_file.PREFIX))
    return
  check_choice('schedule', name, schedule_names())


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
