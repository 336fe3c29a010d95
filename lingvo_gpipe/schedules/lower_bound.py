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

With interruptions the best order is simple: of the tasks whose head is over,
run the one with the longest tail (Jackson's preemptive schedule, see J.
Carlier, "The one-machine sequencing problem", EJOR 11, 1982). It takes no
longer than an order without interruptions, so it is a bound.
"""

import heapq
from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.order_problem import OrderProblem

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


def lower_bound(problem: OrderProblem) -> float:
  """A time below which no schedule of the pipeline can come."""
  tasks, arcs = _graph(problem)
  heads = _longest(problem, tasks, arcs)
  reverse: dict[task_lib.Task, list[tuple[task_lib.Task, float]]] = {}
  for task, before in arcs.items():
    for needed, wait in before:
      reverse.setdefault(needed, []).append((task, wait))
  tails = _longest(problem, tasks[::-1], reverse)
  devices: list[list[tuple[float, float, float]]] = [
    [] for _ in range(problem.num_devices)
  ]
  for task in tasks:
    devices[problem.cell_devices[task.cell]].append(
      (heads[task], problem.duration(task), tails[task])
    )
  by_time = max(map(_one_device, devices), default=0)
  return max(by_time, _by_memory(problem, heads))


def _by_memory(
  problem: OrderProblem, heads: dict[task_lib.Task, float]
) -> float:
  """The bound that memory gives."""
  # For each cell, the time from the start of F to the end of W.
  held: list[float] = [0] * problem.num_cells
  after = 0.0
  for k in reversed(range(problem.first_backward, problem.num_cells)):
    if k + 1 < problem.num_cells:
      after += 2 * problem.transfers[k]
    after += problem.forward[k] + problem.backward[k]
    held[k] = after + problem.weight_gradient[k]
  bound = 0.0
  for cells, limit in zip(problem.device_cells(), problem.limits, strict=True):
    area = sum(problem.stash[k] * held[k] for k in cells)
    if limit and area:
      head = min(heads[task_lib.Task(_FORWARD, k, 0)] for k in cells)
      bound = max(bound, head + problem.num_micro_batches * area / limit)
  return bound


# For each task, those it comes after, and what time passes between.
_Arcs = dict[task_lib.Task, list[tuple[task_lib.Task, float]]]


def _graph(problem: OrderProblem) -> tuple[list[task_lib.Task], _Arcs]:
  """All tasks, in an order that respects what each comes after."""
  room = _room(problem)
  tasks: list[task_lib.Task] = []
  arcs: _Arcs = {}
  cells = range(problem.num_cells)
  trained = range(problem.first_backward, problem.num_cells)
  for m in range(problem.num_micro_batches):
    for kind, of in (
      (_FORWARD, cells),
      (_BACKWARD, trained[::-1]),
      (_WEIGHT_GRADIENT, trained),
    ):
      for k in of:
        task = task_lib.Task(kind, k, m)
        before = [
          (needed, _transfer(problem, needed.cell, k))
          for needed in task_lib.needed(task, problem.num_cells)
        ]
        if m:
          before.append((task_lib.Task(kind, k, m - 1), 0))
        n = room[k]
        if kind == _FORWARD and n is not None and m >= n:
          before.append((task_lib.Task(_WEIGHT_GRADIENT, k, m - n), 0))
        tasks.append(task)
        arcs[task] = before
  return tasks, arcs


def _room(problem: OrderProblem) -> list[int | None]:
  """For each cell, the most micro-batches that it can stash."""
  room: list[int | None] = []
  for k, device in enumerate(problem.cell_devices):
    limit, stash = problem.limits[device], problem.stash[k]
    is_limited = limit is not None and stash > 0
    if not is_limited or k < problem.first_backward:
      room.append(None)
    else:
      # Without room for one there is no order at all.
      room.append(max(int(limit // stash), 1))  # type: ignore[operator]
  return room


def _transfer(problem: OrderProblem, source: int, target: int) -> float:
  return 0 if source == target else problem.transfers[min(source, target)]


def _longest(
  problem: OrderProblem, tasks: Sequence[task_lib.Task], arcs: _Arcs
) -> dict[task_lib.Task, float]:
  """The longest chain that ends where each task starts."""
  found: dict[task_lib.Task, float] = {}
  for task in tasks:
    found[task] = max(
      (
        found[needed] + problem.duration(needed) + wait
        for needed, wait in arcs.get(task, ())
      ),
      default=0,
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
