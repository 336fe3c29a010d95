# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which backward tasks run their cell's forward again, and which need not.

Recomputation saves memory because other micro-batches run between a forward and
its backward, and their activations need the same memory. If none runs between
them, nothing is saved: the activations would be dropped and recomputed at once.
This is so in the last cell under 1F1B (K = 3, M = 4):

```
  device 0  F0 F1 F2  .  . B0 F3 B1  . B2  . B3
  device 1   . F0 F1  . B0 F2 B1 F3 B2  . B3  .
  device 2   .  . F0 B0 F1 B1 F2 B2 F3 B3  .  .
                  `-----'`-----'   one micro-batch's activations at a time,
                                   recomputed or not
```

So with any policy the last cell keeps the activations of a micro-batch whose
backward directly follows its forward on the device. M = 1 is an exception: the
backward then directly follows the forward on every device, but other devices,
or a loss outside the pipeline, work in between. There only the policy decides.
"""

import itertools
from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib

RECOMPUTE_POLICIES = ('always', 'except_last', 'never')
# A choice for each layer, as many of them kept as fit; see `cutting.fit`.
FIT = 'fit'


def check_choice(what: str, name: str, allowed: Sequence[str]) -> None:
  """Raises ValueError if a name is none of those allowed.

  Args:
    what: What is chosen, for the message.
    name: What the user gave.
    allowed: The names there are.
  """
  if name not in allowed:
    raise ValueError(
      f'There is no {what} {name!r}; it must be one of '
      f'{", ".join(map(repr, allowed))}.'
    )


def check_recompute(policy: str) -> None:
  """Raises ValueError if there is no such recompute policy."""
  check_choice('recompute policy', policy, RECOMPUTE_POLICIES)


def recomputed(
  schedule: task_lib.Schedule, policy: str
) -> tuple[frozenset[int], ...]:
  """For each cell, the micro-batches whose backward runs the forward again.

  Args:
    schedule: The schedule.
    policy: 'always': those of all micro-batches, except where this would save
      no memory; 'except_last': the same without the last micro-batch; 'never':
      none.

  Raises:
    ValueError: There is no such policy.
  """
  most = most_recomputed(schedule.num_micro_batches, policy)
  micro_batches = frozenset(range(0 if schedule.forward_only else most))
  gains_nothing = _direct_backwards(schedule)
  none: frozenset[int] = frozenset()
  return tuple(
    none
    if k < schedule.first_backward
    else micro_batches
    - (gains_nothing if k == schedule.num_cells - 1 else none)
    for k in range(schedule.num_cells)
  )


def most_recomputed(num_micro_batches: int, policy: str) -> int:
  """How many micro-batches a cell recomputes if it gains by each.

  Raises:
    ValueError: There is no such policy.
  """
  check_recompute(policy)
  if policy == 'never':
    return 0
  return num_micro_batches - (policy == 'except_last')


def _direct_backwards(schedule: task_lib.Schedule) -> frozenset[int]:
  """The last cell's micro-batches that go backward directly after forward."""
  if schedule.num_micro_batches == 1:
    return frozenset()
  last = schedule.num_cells - 1
  tasks = schedule.device_tasks[schedule.cell_devices[last]]
  return frozenset(
    task.micro_batch
    for task, after in itertools.pairwise(tasks)
    if task.cell == after.cell == last
    and task.micro_batch == after.micro_batch
    and task.kind == task_lib.TaskKind.FORWARD
    and after.kind == task_lib.TaskKind.BACKWARD
  )
