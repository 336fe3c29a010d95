# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a schedule makes cells stash, whatever its tasks' durations.

A cell stashes a micro-batch from the start of its forward to the end of its
backward (of its weight gradient, where that is a task of its own). A cell's
tasks all run on one device, one after the other, so their order alone decides
how many micro-batches are stashed at once. A cell without backwards stashes
nothing.
"""

from collections.abc import Iterator

from lingvo_gpipe.schedules import task as task_lib

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


def stash_counts(
  schedule: task_lib.Schedule, device: int
) -> Iterator[tuple[task_lib.Task, dict[int, int]]]:
  """Yields each task of a device with what is stashed while it runs.

  Args:
    schedule: The schedule.
    device: The index of the device.

  Yields:
    (task, counts): for each of the device's cells, the micro-batches it
    stashes while `task` runs, that of the task itself included. The dict is
    the same one each time, updated in place.
  """
  tasks = schedule.device_tasks[device]
  counts = {
    cell: 0
    for cell, cell_device in enumerate(schedule.cell_devices)
    if cell_device == device
  }
  is_split = any(task.kind == _WEIGHT_GRADIENT for task in tasks)
  releasing_kind = _WEIGHT_GRADIENT if is_split else _BACKWARD
  keeps = not schedule.forward_only
  for task in tasks:
    if task.kind == _FORWARD and keeps and task.cell >= schedule.first_backward:
      counts[task.cell] += 1
    yield task, counts
    if task.kind == releasing_kind:
      counts[task.cell] -= 1


def peak_stash(schedule: task_lib.Schedule) -> tuple[int, ...]:
  """For each cell, the most micro-batches it ever stashes."""
  peaks = [0] * schedule.num_cells
  for device in range(schedule.num_devices):
    for task, counts in stash_counts(schedule, device):
      peaks[task.cell] = max(peaks[task.cell], counts[task.cell])
  return tuple(peaks)


def peak_handed(schedule: task_lib.Schedule) -> tuple[int, ...]:
  """The most micro-batches of each cell that wait for their W.

  What B handed to W is kept that long. They are counted while a B or a W of
  another micro-batch, or of another cell, runs on the device. Without W tasks
  none waits.
  """
  peaks = [0] * schedule.num_cells
  for tasks in schedule.device_tasks if schedule.is_split else ():
    waiting = dict.fromkeys((task.cell for task in tasks), 0)
    for task in tasks:
      if task.kind == _WEIGHT_GRADIENT:
        waiting[task.cell] -= 1
      if task.kind != _FORWARD:
        for cell, count in waiting.items():
          peaks[cell] = max(peaks[cell], count)
      if task.kind == _BACKWARD:
        waiting[task.cell] += 1
  return tuple(peaks)


def device_peak_stash(schedule: task_lib.Schedule) -> tuple[int, ...]:
  """For each device, the most (cell, micro-batch) pairs it stashes at once."""
  return tuple(
    max(
      (sum(counts.values()) for _, counts in stash_counts(schedule, device)),
      default=0,
    )
    for device in range(schedule.num_devices)
  )
