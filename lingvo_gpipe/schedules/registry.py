# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The schedules that have a name: those of this package, and users' own."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from lingvo_gpipe.schedules import gpipe, interleaved, one_f_one_b, v_shaped
from lingvo_gpipe.schedules import zb_h1 as zb_h1_lib
from lingvo_gpipe.schedules.task import (
  Schedule,
  ScheduleError,
  Task,
  without_frozen,
)

# From the device of each cell and M.
Builder = Callable[[Sequence[int], int], Schedule]

# These also take the first cell with backward tasks.
BUILDERS: dict[str, Callable[[Sequence[int], int, int], Schedule]] = {
  'gpipe': gpipe.gpipe,
  '1f1b': one_f_one_b.one_f_one_b,
  'interleaved_1f1b': interleaved.interleaved_1f1b,
  'zb_h1': zb_h1_lib.zb_h1,
  'zb_v': v_shaped.zb_v,
  'v_half': v_shaped.v_half,
  'v_min': v_shaped.v_min,
}
SCHEDULE_NAMES = (*BUILDERS, 'auto')

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')
_RESERVED = (*SCHEDULE_NAMES, 'forward_only')


# What users registered, and the schedules that these are placed like.
registered: dict[str, Builder] = {}
placed_like: dict[str, str] = {}


def register_schedule(name: str, builder: Builder, like: str = '1f1b') -> None:
  """Makes a schedule of your own usable by name, in Params, flags and plans.

  Call it in the module of your model, so that each process does. Doing the
  same again changes nothing.

  Args:
    name: Letters, digits, '_', '.' and '-'; no name that there is.
    builder: Makes the schedule: a function of the device of each cell and of
      M that returns a `Schedule` with the backward tasks of all cells. Those of
      cells in which nothing is trained are left out later. It must return the
      same in each process. What it returns is validated.
    like: One of SCHEDULE_NAMES, whose cells lie on devices as the
      builder wants them: '1f1b' for a cell a device, or any; with two or more
      cells on each device 'interleaved_1f1b' for round robin; 'zb_v' for a V.

  Raises:
    ValueError: An argument is none of what is allowed.
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
  if registered.get(name) == builder and placed_like[name] == like:
    return
  if name in _RESERVED or name in registered:
    owner = 'lingvo_gpipe'
    if name in registered:
      owner = _text(registered[name])
    raise ValueError(
      f'{what}, which is the name of a schedule of {owner}. Use another name; '
      f'taken are {", ".join((*_RESERVED, *registered))}.'
    )
  if like not in SCHEDULE_NAMES:
    raise ValueError(
      f'register_schedule: like of {name!r} is {like!r}; it must be one '
      f'of {", ".join(SCHEDULE_NAMES)}.'
    )
  registered[name], placed_like[name] = builder, like


def build_registered(
  name: str, devices: Sequence[int], num_micro_batches: int
) -> Schedule:
  """What a user's builder makes, not validated yet.

  Raises:
    ScheduleError: It is no schedule, or one for other sizes.
  """
  builder = registered[name]
  made = builder(devices, num_micro_batches)
  what = f'Schedule {name!r}: its builder {_text(builder)}'
  if not isinstance(made, Schedule):
    raise ScheduleError(
      f'{what} returned {made!r:.100}; it must return a '
      'lingvo_gpipe.schedules.Schedule.'
    )
  rows = tuple(map(tuple, made.device_tasks))
  for device, row in enumerate(rows):
    for place, task in enumerate(row):
      if not isinstance(task, Task):
        raise ScheduleError(
          f'{what} put {task!r:.100} at place {place} of device {device}; '
          'it must be a lingvo_gpipe.schedules.Task.'
        )
  check_sizes(what, made, devices, num_micro_batches)
  return dataclasses.replace(
    made, name=name, cell_devices=tuple(devices), device_tasks=rows
  )


def check_sizes(
  what: str, schedule: Schedule, devices: Sequence[int], num_micro_batches: int
) -> None:
  """Raises ScheduleError if a schedule is not for a pipeline's sizes."""
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


def trained_from(
  name: str, schedule: Schedule, first_backward: int
) -> Schedule:
  """A schedule without the backward tasks of cells that are not trained.

  Raises:
    ScheduleError: Trained cells have no backward tasks in it.
  """
  if schedule.forward_only or schedule.first_backward > first_backward:
    raise ScheduleError(
      f'{name}: cells that are trained, from cell {first_backward} '
      'on, have no backward tasks in it. Add them, or freeze these cells.'
    )
  return dataclasses.replace(
    schedule,
    device_tasks=without_frozen(schedule.device_tasks, first_backward),
    first_backward=first_backward,
  )


def _text(builder: Builder) -> str:
  module = getattr(builder, '__module__', '')
  name = getattr(builder, '__qualname__', repr(builder))
  return f'{module}.{name}'.lstrip('.')
