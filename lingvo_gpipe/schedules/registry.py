# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The schedules that have a name, and on which devices they want the cells."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from lingvo_gpipe.schedules import (
  schedule_file,
  slot_filling,
  v_shaped,
  zero_bubble,
)
from lingvo_gpipe.schedules.recompute import check_choice
from lingvo_gpipe.schedules.task import (
  Rows,
  Schedule,
  ScheduleError,
  Task,
  without_frozen,
)

# From the device of each cell and M.
Builder = Callable[[Sequence[int], int], Schedule]

BUILDERS: dict[str, Callable[[Sequence[int], int, int], Rows]] = {
  'gpipe': slot_filling.gpipe,
  '1f1b': slot_filling.one_f_one_b,
  'interleaved_1f1b': slot_filling.interleaved_1f1b,
  'zb_h1': zero_bubble.zb_h1,
  'zb_v': zero_bubble.zb_v,
  'v_half': v_shaped.v_half,
  'v_min': v_shaped.v_min,
}
SCHEDULE_NAMES = (*BUILDERS, 'auto')
# What is compared where all would be too many.
PLAIN_NAMES = ('gpipe', '1f1b')
# Those without W tasks.
WHOLE_NAMES = (*PLAIN_NAMES, 'interleaved_1f1b')

_V_SHAPED = ('zb_v', 'v_half', 'v_min')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')

# What users registered: builders, and the schedules that they are placed like.
registered: dict[str, tuple[Builder, str]] = {}


def register_schedule(name: str, builder: Builder, like: str = '1f1b') -> None:
  """Makes a schedule of your own usable by name, in Params, flags and plans.

  Call it in the module of your model, so that each process does.

  Args:
    name: Letters, digits, '_', '.' and '-'; no name that there is.
    builder: A function of the device of each cell and of M that returns a
      `Schedule` with the backward tasks of all cells, the same in each process.
    like: One of SCHEDULE_NAMES, whose cells lie as the builder wants them:
      '1f1b' for a cell a device, or any; with two or more cells on each device
      'interleaved_1f1b' for round robin; 'zb_v' for a V.

  Raises ValueError if an argument is none of these.
  """
  what = f'register_schedule: name is {name!r}'
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    raise ValueError(
      f"{what}; use letters, digits, '_', '.' and '-', a letter or digit first."
    )
  if not callable(builder):
    raise ValueError(
      f'register_schedule: builder of {name!r} is {builder!r}; it must be a '
      'function of cell_devices and num_micro_batches that returns a Schedule.'
    )
  check_choice('schedule for `like`', like, SCHEDULE_NAMES)
  taken = (*SCHEDULE_NAMES, 'forward_only', *registered)
  if registered.get(name) != (builder, like) and name in taken:
    raise ValueError(f'{what}; taken names are {", ".join(taken)}.')
  registered[name] = builder, like


def build(
  name: str, devices: tuple[int, ...], num_micro_batches: int, first: int
) -> Schedule:
  """A schedule of BUILDERS, whose first cell with backward tasks is `first`."""
  rows = without_frozen(
    BUILDERS[name](devices, num_micro_batches, first), first
  )
  return Schedule(name, num_micro_batches, devices, rows, first)


def build_registered(
  name: str, devices: Sequence[int], num_micro_batches: int
) -> Schedule:
  """What a user's builder makes, not validated yet."""
  builder, _ = registered[name]
  made = builder(devices, num_micro_batches)
  what = f'Schedule {name!r}: its builder {builder!r}'
  if not isinstance(made, Schedule) or not all(
    isinstance(task, Task) for row in made.device_tasks for task in row
  ):
    raise ScheduleError(
      f'{what} returned {made!r:.200}; it must return a '
      'lingvo_gpipe.schedules.Schedule of Tasks.'
    )
  check_sizes(what, made, devices, num_micro_batches)
  return dataclasses.replace(
    made,
    name=name,
    cell_devices=tuple(devices),
    device_tasks=tuple(map(tuple, made.device_tasks)),
  )


def check_sizes(
  what: str, schedule: Schedule, devices: Sequence[int], num_micro_batches: int
) -> None:
  for of_what, found, wanted in (
    ('micro-batches', schedule.num_micro_batches, num_micro_batches),
    ('cells', schedule.num_cells, len(devices)),
    ('cells on devices', list(schedule.cell_devices), list(devices)),
  ):
    if found != wanted:
      raise ScheduleError(
        f'{what}: the schedule is for {of_what} {found}, but the pipeline has '
        f'{wanted}.'
      )


def _like(schedule: str) -> str:
  _, like = registered.get(schedule, (None, schedule))
  return like


def _is_flexible(schedule: str) -> bool:
  return _like(schedule) not in (*_V_SHAPED, 'interleaved_1f1b')


def cells_per_device(schedule: str) -> int:
  """How many cells a schedule puts on a device if nobody says how many."""
  if schedule.startswith(schedule_file.PREFIX):
    devices = schedule_file.read_named(schedule).cell_devices
    return -(-len(devices) // (max(devices) + 1))
  return 1 if _is_flexible(schedule) else 2


def place(schedule: str, num_cells: int, num_devices: int) -> tuple[int, ...]:
  """The device of each cell, as the schedule wants it if that is possible.

  ```
    cells 0 to 7       round robin        V
    device 0           0 4                0 7
    device 1           1 5                1 6
    device 2           2 6                2 5
    device 3           3 7                3 4
  ```

  Of more devices than cells the first are used.
  """
  if schedule.startswith(schedule_file.PREFIX):
    devices = schedule_file.read_named(schedule).cell_devices
    if len(devices) == num_cells and max(devices) < num_devices:
      return devices
  wants_v = _like(schedule) in _V_SHAPED and not num_cells % 2
  if wants_v and num_cells <= 2 * num_devices:
    return tuple(min(k, num_cells - 1 - k) for k in range(num_cells))
  return tuple(k % num_devices for k in range(num_cells))


def fits(schedule: str, cell_devices: Sequence[int]) -> bool:
  if _is_flexible(schedule):
    return True
  num_cells, num_devices = len(cell_devices), max(cell_devices) + 1
  per_device, left = divmod(num_cells, num_devices)
  if left or (per_device != 2 and _like(schedule) in _V_SHAPED):
    return False
  return tuple(cell_devices) == place(schedule, num_cells, num_devices)


def check_placement(schedule: str, cell_devices: Sequence[int]) -> None:
  """Raises ValueError if a schedule cannot have its cells on these devices."""
  if not fits(schedule, cell_devices):
    where = 'cell k on device k mod D, and equally many cells on all D devices'
    if _like(schedule) in _V_SHAPED:
      where = 'two cells on each device: k and 2 D - 1 - k on device k of D'
    raise ValueError(
      f'Schedule {schedule!r} needs {where}. The cells are on devices '
      f'{list(cell_devices)}.'
    )
