# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""On which devices a schedule wants the cells.

```
  cells 0 to 7       round robin        V
  device 0           0 4                0 7
  device 1           1 5                1 6
  device 2           2 6                2 5
  device 3           3 7                3 4
```
"""

from collections.abc import Sequence

from lingvo_gpipe.schedules import schedule_file
from lingvo_gpipe.schedules.registry import placed_like

_V_SHAPED = ('zb_v', 'v_half', 'v_min')
_ROUND_ROBIN = ('interleaved_1f1b',)


def cells_per_device(schedule: str) -> int:
  """How many cells a schedule puts on a device if nobody says how many."""
  if schedule.startswith(schedule_file.PREFIX):
    path = schedule.removeprefix(schedule_file.PREFIX)
    devices = schedule_file.read(path).cell_devices
    return -(-len(devices) // (max(devices) + 1))
  return 1 if is_flexible(schedule) else 2


def is_flexible(schedule: str) -> bool:
  """Whether a schedule can have cells on any devices."""
  return placed_like.get(schedule, schedule) not in (*_V_SHAPED, *_ROUND_ROBIN)


def _is_v_shaped(schedule: str) -> bool:
  return placed_like.get(schedule, schedule) in _V_SHAPED


def place(schedule: str, num_cells: int, num_devices: int) -> tuple[int, ...]:
  """The device of each cell, as the schedule wants it if that is possible.

  Args:
    schedule: A schedule's name.
    num_cells: How many cells there are.
    num_devices: How many devices there are; the first are used.
  """
  if schedule.startswith(schedule_file.PREFIX):
    path = schedule.removeprefix(schedule_file.PREFIX)
    devices = schedule_file.read(path).cell_devices
    if len(devices) == num_cells and max(devices) < num_devices:
      return devices
  if _is_v_shaped(schedule) and not num_cells % 2:
    used = range(num_cells // 2)
    if len(used) <= num_devices:
      return (*used, *reversed(used))
  return tuple(k % num_devices for k in range(num_cells))


def fits(schedule: str, cell_devices: Sequence[int]) -> bool:
  """Whether a schedule can have its cells on these devices."""
  num_cells, num_devices = len(cell_devices), max(cell_devices) + 1
  if is_flexible(schedule):
    return True
  if _is_v_shaped(schedule) and num_cells != 2 * num_devices:
    return False
  return not num_cells % num_devices and tuple(cell_devices) == place(
    schedule, num_cells, num_devices
  )


def check(schedule: str, cell_devices: Sequence[int]) -> None:
  """Raises ValueError if a schedule cannot have its cells on these devices."""
  if not fits(schedule, cell_devices):
    where = (
      'two cells on each device: k and 2 D - 1 - k on device k of D'
      if _is_v_shaped(schedule)
      else 'cell k on device k mod D, and equally many cells on all D devices'
    )
    raise ValueError(
      f'Schedule {schedule!r} needs {where}. The cells are on devices '
      f'{list(cell_devices)}.'
    )
