# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules by their names: made, and what cells stash and recompute."""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

from lingvo_gpipe.schedules import registry, schedule_file
from lingvo_gpipe.schedules.best_order import find_best_order
from lingvo_gpipe.schedules.order_problem import OrderProblem, limits_of_1f1b
from lingvo_gpipe.schedules.recompute import (
  check_choice,
  most_recomputed,
  recomputed,
)
from lingvo_gpipe.schedules.registry import SCHEDULE_NAMES, WHOLE_NAMES
from lingvo_gpipe.schedules.simulate import peak_handed, peak_stash
from lingvo_gpipe.schedules.slot_filling import gpipe, in_flight_limits
from lingvo_gpipe.schedules.task import Schedule, ScheduleError, without_frozen
from lingvo_gpipe.schedules.validate import validate

# Schedules of more cells times micro-batches are not built to be counted in.
_MAX_COUNTED = 100_000


def schedule_names() -> tuple[str, ...]:
  """All names that there are, registered ones last."""
  return (*SCHEDULE_NAMES, *registry.registered)


def check_name(name: str) -> None:
  """Raises ValueError if there is no such schedule."""
  if str(name).startswith(schedule_file.PREFIX):
    schedule_file.read_named(name)
  else:
    check_choice('schedule', name, schedule_names())


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

  Args:
    name: One of `schedule_names`, or 'file:PATH', see `schedule_file`.
    cell_devices: For each of the K cells, the index of its device; see `place`.
    forward_only: Leaves the backwards out, for evaluation: the same schedule,
      'forward_only', for every name.
    first_backward: The first cell with backward tasks; K for none.
    costs: What 'auto' orders the tasks by. By default all take equally long,
      and no device stashes more than 1F1B's first.

  Raises ValueError if an argument is not allowed, ScheduleError if 'auto' finds
  no order that fits into the costs' memory, or if what a file or a user's
  builder brings cannot run.
  """
  check_name(name)
  devices = tuple(map(operator.index, cell_devices))
  if not devices or min(devices) < 0:
    raise ValueError(
      f'cell_devices is {list(devices)}; it must have the device of at least '
      'one cell, an index of 0 or more.'
    )
  if num_micro_batches < 1:
    raise ValueError(
      f'num_micro_batches is {num_micro_batches}; it must be 1 or more.'
    )
  if not 0 <= first_backward <= len(devices):
    raise ValueError(
      f'first_backward is {first_backward}; it must be from 0 to the number of '
      f'cells, {len(devices)}.'
    )
  sizes = devices, operator.index(num_micro_batches)
  if forward_only or first_backward == len(devices):
    rows = tuple(map(tuple, gpipe(*sizes, len(devices))))
    return Schedule('forward_only', *sizes[::-1], rows)
  registry.check_placement(name, devices)
  if name in registry.BUILDERS:
    return _built(name, *sizes, first_backward)
  if name == 'auto':
    limits = limits_of_1f1b(*sizes, first_backward)
    equal = OrderProblem(*sizes, limits=limits, first_backward=first_backward)
    schedule = find_best_order(costs or equal).schedule
  else:
    schedule = _trained_from(first_backward, _brought(name, *sizes), name)
  validate(schedule)
  return schedule


@functools.lru_cache(maxsize=32)
def _built(
  name: str, devices: tuple[int, ...], num_micro_batches: int, first: int
) -> Schedule:
  schedule = registry.build(name, devices, num_micro_batches, first)
  validate(schedule)
  return schedule


def _brought(
  name: str, devices: Sequence[int], num_micro_batches: int
) -> Schedule:
  if not name.startswith(schedule_file.PREFIX):
    return registry.build_registered(name, devices, num_micro_batches)
  schedule = schedule_file.read_named(name)
  registry.check_sizes(name, schedule, devices, num_micro_batches)
  return schedule


def _trained_from(first: int, schedule: Schedule, name: str) -> Schedule:
  if schedule.forward_only or schedule.first_backward > first:
    raise ScheduleError(
      f'{name}: cells that are trained, from cell {first} on, have no backward '
      'tasks in it. Add them, or freeze these cells.'
    )
  rows = without_frozen(schedule.device_tasks, first)
  return dataclasses.replace(schedule, device_tasks=rows, first_backward=first)


class Counts(NamedTuple):
  """For each cell, how many micro-batches it stashes and recomputes.

  `handed` are the most that wait for their W while a task of another runs.
  """

  stashed: tuple[int, ...]
  handed: tuple[int, ...]
  recomputed: tuple[int, ...]


def count(
  name: str, cell_devices: Sequence[int], num_micro_batches: int, policy: str
) -> Counts:
  """Counts in a schedule, or by formulas if making it would take seconds.

  Formulas give no less than there is; where each cell has a device of its own
  they are exact, but for 'auto'.
  """
  sizes, num_cells = (cell_devices, num_micro_batches), len(cell_devices)
  share = len(set(cell_devices)) < num_cells
  is_long = num_cells * num_micro_batches > _MAX_COUNTED
  schedule = None
  if name not in SCHEDULE_NAMES:
    schedule = _brought(name, *sizes)
    validate(schedule)
  elif not is_long and (share or name == 'zb_h1'):
    schedule = make_schedule(name, *sizes)
  if schedule is not None and name != 'auto':
    again = tuple(map(len, recomputed(schedule, policy)))
    return Counts(peak_stash(schedule), peak_handed(schedule), again)
  if schedule is not None:
    stashed = peak_stash(schedule)
  else:
    stashed = _most_stashed(name, *sizes, share)
  # All that a cell stashes may wait while a task of another cell runs.
  handed = [0 if name in WHOLE_NAMES else n - (not share) for n in stashed]
  most = most_recomputed(num_micro_batches, policy)
  # A cell with a device to itself, and room for one micro-batch between F and
  # B, has nothing to do but that one's backward after its forward.
  is_direct = name != 'gpipe' and (name != 'auto' or num_cells == 1)
  is_direct = is_direct and not share and num_micro_batches > 1
  again = (most,) * (num_cells - 1) + (0 if is_direct else most,)
  return Counts(stashed, tuple(handed), again)


def _most_stashed(
  name: str, cell_devices: Sequence[int], num_micro_batches: int, share: bool
) -> tuple[int, ...]:
  num_cells = len(cell_devices)
  if name == 'gpipe' or (share and name not in ('1f1b', 'zb_h1')):
    return (num_micro_batches,) * num_cells
  limits = in_flight_limits(cell_devices, num_micro_batches)
  if name == '1f1b':
    return tuple(limits)
  if name == 'interleaved_1f1b':
    return tuple(min(num_micro_batches, 2 * limit - 1) for limit in limits)
  return (limits[0],) * num_cells
