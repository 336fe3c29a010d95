# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A schedule that is in a graph: which op runs which task."""

import dataclasses

from lingvo_gpipe.schedules.task import Schedule, Task


@dataclasses.dataclass(frozen=True)
class EmittedSchedule:
  """One pass of a mini-batch through a pipeline, as a graph has it.

  Attributes:
    schedule: The schedule.
    devices: The name of each cell's device.
    task_of_op: The tasks by the names of the ops that run them. It grows when
      backward tasks are emitted later. Tasks that have nothing to do have no
      op.
    recompute_of_op: Backward tasks by the names of the ops that run the forward
      pass again for them. Such an op runs just before the task's own.
  """

  schedule: Schedule
  devices: tuple[str, ...]
  task_of_op: dict[str, Task]
  recompute_of_op: dict[str, Task] = dataclasses.field(default_factory=dict)
