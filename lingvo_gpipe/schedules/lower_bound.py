# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The least time that any order of a pipeline's tasks can take.

A task can start no sooner than a chain of others has ended (its head), and
another chain has to run after it (its tail). A device that runs its tasks one
at a time, each between its head and its tail, takes at least

```
  head ...|-- task --|-- task --| ... |-- task --|... tail
          `------ one device, tasks may be interrupted ------'
```

With interruptions the best order runs, of the tasks whose head is over, the one
with the longest tail (Jackson's preemptive schedule, see J. Carlier, "The
one-machine sequencing problem", EJOR 11, 1982).
"""

import heapq
from typing import TypeAlias

from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.task import Task, TaskKind, needed

_FORWARD, _BACKWARD, _WEIGHT_GRADIENT = TaskKind

# For each task, those it comes after, and what time passes between.
_Arcs: TypeAlias = dict[Task, list[tuple[Task, float]]]


def lower_bound(problem: OrderProblem) -> float:
  """A time below which no schedule of the pipeline can come."""
  arcs = _arcs(problem)
  reverse: _Arcs = {task: [] for task in reversed(arcs)}
  for task, before in arcs.items():
    for other, wait in before:
      reverse[other].append((task, wait))
  heads, tails = _longest(problem, arcs), _longest(problem, reverse)
  devices: list[list[tuple[float, float, float]]] = [
    [] for _ in range(problem.num_devices)
  ]
  for task in arcs:
    devices[problem.cell_devices[task.cell]].append(
      (heads[task], problem.duration(task), tails[task])
    )
  return max(map(_one_device, devices))


def _arcs(problem: OrderProblem) -> _Arcs:
  """All tasks, in an order that respects what each comes after."""
  arcs: _Arcs = {}
  trained = range(problem.first_backward, problem.num_cells)
  room = {k: _room(problem, k) for k in trained}
  of_kinds = (range(problem.num_cells), trained[::-1], trained)
  for m in range(problem.num_micro_batches):
    for kind, cells in zip(TaskKind, of_kinds, strict=True):
      for k in cells:
        task = Task(kind, k, m)
        before = [
          (other, problem.transfer(other.cell, k))
          for other in needed(task, problem.num_cells)
        ]
        if m:
          before.append((Task(kind, k, m - 1), 0))
        if kind == _FORWARD and m >= room.get(k, m + 1):
          before.append((Task(_WEIGHT_GRADIENT, k, m - room[k]), 0))
        arcs[task] = before
  return arcs


def _room(problem: OrderProblem, k: int) -> int:
  limit, stash = problem.limits[problem.cell_devices[k]], problem.stash[k]
  if limit is None or not stash:
    return problem.num_micro_batches
  # Without room for one there is no order at all.
  return max(int(limit // stash), 1)


def _longest(problem: OrderProblem, arcs: _Arcs) -> dict[Task, float]:
  """The longest chain that ends where each task starts."""
  found: dict[Task, float] = {}
  for task, before in arcs.items():
    found[task] = max(
      (found[x] + problem.duration(x) + wait for x, wait in before), default=0
    )
  return found


def _one_device(tasks: list[tuple[float, float, float]]) -> float:
  """How long (head, duration, tail) take if they may be interrupted."""
  waiting = sorted(tasks, reverse=True)
  ready: list[list[float]] = []  # [-tail, what is left]
  now, most = 0.0, 0.0
  while waiting or ready:
    if not ready:
      now = max(now, waiting[-1][0])
    while waiting and waiting[-1][0] <= now:
      _, duration, tail = waiting.pop()
      heapq.heappush(ready, [-tail, duration])
    tail, left = -ready[0][0], ready[0][1]
    until = waiting[-1][0] if waiting else now + left
    if now + left <= until:
      heapq.heappop(ready)
      now += left
      most = max(most, now + tail)
    else:
      ready[0][1] -= until - now
      now = until
  return most
