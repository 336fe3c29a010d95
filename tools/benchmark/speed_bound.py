# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How well a pipeline could use the cores at best.

With T1 the time of a step on one core and TK that on K devices, each a thread
of its own, the efficiency is

```
  T1 / (min(K, C) TK)        C cores
```

1 if no core ever waited or did other work than on one core. Fill and drain,
unequal cells, and M too small keep it below 1 however good an engine is: the
bound is the efficiency of the simulated schedule, each task lasting as long as
its FLOPs, or its measured time, say. For equal cells and K <= C that is
M / (M + K - 1).
"""

from collections.abc import Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind


def bound(
  costs: Sequence[tuple[float, float]],
  schedule: str,
  recompute: str,
  num_micro_batches: int,
  num_cores: int,
) -> float:
  """The highest efficiency that a schedule allows.

  Args:
    costs: For each cell, what forward and backward of a micro-batch take,
      without recomputation, in any unit.
    schedule: A schedule's name.
    recompute: A recompute policy.
    num_micro_batches: M.
    num_cores: C.
  """
  made = schedules.make_schedule(schedule, range(len(costs)), num_micro_batches)
  again = schedules.recomputed(made, recompute)

  def duration(task: Task) -> float:
    forward, backward = costs[task.cell]
    if task.kind == TaskKind.FORWARD:
      return forward
    recomputes = task.micro_batch in again[task.cell]
    return backward + (forward if recomputes else 0)

  timeline = schedules.simulate(made, duration)
  work = sum(timeline.device_busy)
  usable = min(len(costs), num_cores)
  # K threads on fewer cores: the cores' time is a limit too.
  least = max(timeline.step_time, work / usable)
  return float(work / (usable * least))
