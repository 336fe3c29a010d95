# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pipeline schedules: who runs what, in which order. Pure Python."""

from lingvo_gpipe.schedules.best_order import find_best_order
from lingvo_gpipe.schedules.grid import grid
from lingvo_gpipe.schedules.making import (
  Counts,
  check_name,
  count,
  make_schedule,
  schedule_names,
)
from lingvo_gpipe.schedules.order_problem import OrderProblem, limits_of_1f1b
from lingvo_gpipe.schedules.recompute import (
  FIT,
  RECOMPUTE_POLICIES,
  check_recompute,
  recomputed,
)
from lingvo_gpipe.schedules.registry import (
  PLAIN_NAMES,
  SCHEDULE_NAMES,
  WHOLE_NAMES,
  cells_per_device,
  place,
  register_schedule,
)
from lingvo_gpipe.schedules.schedule_file import from_json, read, to_json
from lingvo_gpipe.schedules.simulate import Timeline, simulate
from lingvo_gpipe.schedules.task import Schedule, ScheduleError, Task, TaskKind
from lingvo_gpipe.schedules.validate import validate

__all__ = [
  'FIT',
  'PLAIN_NAMES',
  'RECOMPUTE_POLICIES',
  'SCHEDULE_NAMES',
  'WHOLE_NAMES',
  'Counts',
  'OrderProblem',
  'Schedule',
  'ScheduleError',
  'Task',
  'TaskKind',
  'Timeline',
  'cells_per_device',
  'check_name',
  'check_recompute',
  'count',
  'find_best_order',
  'from_json',
  'grid',
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
