# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which backward tasks run their cell's forward again, and which need not.

Recomputation saves memory because other micro-batches run between a forward and
its backward. If none does, the activations would be dropped and recomputed at
once. So with any policy the last cell keeps those of a micro-batch whose
backward directly follows its forward. M = 1 is an exception: other devices, or
a loss outside the pipeline, work in between. There only the policy decides.
"""

import itertools
from collections.abc import Sequence

from lingvo_gpipe.schedules.task import Schedule, Task, TaskKind

RECOMPUTE_POLICIES = ('always', 'except_last', 'never')
# A choice for each layer, as many of them kept as fit; see `cutting.fit`.
FIT = 'fit'


def check_choice(what: str, name: str, allowed: Sequence[str]) -> None:
  if name not in allowed:
    raise ValueError(
      f'There is no {what} {name!r}; it must be one of '
      f'{", ".join(map(repr, allowed))}.'
    )


def check_recompute(policy: str) -> None:
  check_choice('recompute policy', policy, RECOMPUTE_POLICIES)


def most_recomputed(num_micro_batches: int, policy: str) -> int:
  check_recompute(policy)
  if policy == 'never':
    return 0
  return num_micro_batches - (policy == 'except_last')


def recomputed(schedule: Schedule, policy: str) -> tuple[frozenset[int], ...]:
  """For each cell, the micro-batches whose backward runs the forward again."""
  most = most_recomputed(schedule.num_micro_batches, policy)
  again = frozenset(range(0 if schedule.forward_only else most))
  of_cells = [frozenset[int]()] * schedule.first_backward
  of_cells += [again] * (schedule.num_cells - schedule.first_backward)
  of_cells[-1] -= _direct_backwards(schedule)
  return tuple(of_cells)


def _direct_backwards(schedule: Schedule) -> frozenset[int]:
  """The last cell's micro-batches that go backward directly after forward."""
  if schedule.num_micro_batches == 1:
    return frozenset()
  last = schedule.num_cells - 1
  row = schedule.device_tasks[schedule.cell_devices[last]]
  return frozenset(
    task.micro_batch
    for task, after in itertools.pairwise(row)
    if task == Task(TaskKind.FORWARD, last, task.micro_batch)
    and after == Task(TaskKind.BACKWARD, last, task.micro_batch)
  )
