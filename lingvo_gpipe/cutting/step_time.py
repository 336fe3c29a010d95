# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the tasks of cells take, and a step of them."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import PipelineSpec
from lingvo_gpipe.schedules import Task, TaskKind

# Schedules of more cells times micro-batches are not simulated.
_MAX_SIMULATED = 20_000

# The layers of each cell.
Cells: TypeAlias = Sequence[Sequence[LayerCost]]


def task_times(
  cells: Cells, spec: PipelineSpec, schedule: schedules.Schedule, unit: float
) -> Callable[[Task], float]:
  """What each task takes, recomputation included; `unit` is for a cost of 1."""
  times: dict[tuple[TaskKind, int], float] = {}
  for k, cell in enumerate(cells):
    of_weights = float(sum(x.weight_gradient for x in cell)) * unit
    backward = float(sum(x.backward for x in cell)) * unit
    if schedule.is_split:
      backward = max(backward - of_weights, 0.0)
    times[TaskKind.FORWARD, k] = float(sum(x.forward for x in cell)) * unit
    times[TaskKind.BACKWARD, k] = backward
    times[TaskKind.WEIGHT_GRADIENT, k] = of_weights
  once = [float(spec.forward_again(cell)) * unit for cell in cells]
  again = schedules.recomputed(schedule, spec.recompute)

  def time_of(task: Task) -> float:
    time = times[task.kind, task.cell]
    if task.kind == TaskKind.BACKWARD and task.micro_batch in again[task.cell]:
      time += once[task.cell]
    return time

  return time_of


def step_time(cells: Cells, spec: PipelineSpec) -> float:
  """How long a step takes without transfers, in the layers' unit.

  Where that would take seconds to find it is the time of the busiest device.
  """
  size = spec.num_cells * spec.num_micro_batches
  if spec.schedule == 'auto' or size > _MAX_SIMULATED:
    return busiest(cells, spec)
  schedule = schedule_of(cells, spec)
  times = task_times(cells, spec, schedule, 1.0)
  return float(schedules.simulate(schedule, times).step_time)


def schedule_of(cells: Cells, spec: PipelineSpec) -> schedules.Schedule:
  return schedules.make_schedule(
    spec.schedule,
    spec.cell_devices,
    spec.num_micro_batches,
    first_backward=first_backward(cells),
  )


def first_backward(cells: Cells) -> int:
  """The first cell with backward tasks; K if none has any."""
  return sum(not cell[-1].has_backward for cell in cells)


def busiest(cells: Cells, spec: PipelineSpec) -> float:
  """How long the busiest device runs tasks in a step, in the layers' unit."""
  busy = [0.0] * spec.num_devices
  for k, cell in enumerate(cells):
    time = float(spec.cell_cost(cell, k))
    busy[spec.cell_devices[k]] += time * spec.num_micro_batches
  return max(busy)
