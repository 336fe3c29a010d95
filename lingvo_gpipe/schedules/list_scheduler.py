# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Orders tasks by letting each device run the most urgent one that can start.

The pipeline runs once on paper, in time: of all devices the one that can start
a task first does so.

```
  device 0  F0 F1 F2 |             what could start now: F3 (if there is room)
  device 1     F0 F1 | B0          B1 (once B1 of cell 2 has arrived), W0
                     ^ now
```

Which of several tasks is most urgent is a matter of the rule; no rule is best
for all pipelines, so several are tried.
"""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe.schedules import task as task_lib
from lingvo_gpipe.schedules.order_problem import OrderProblem

_FORWARD = task_lib.TaskKind.FORWARD
_BACKWARD = task_lib.TaskKind.BACKWARD
_WEIGHT_GRADIENT = task_lib.TaskKind.WEIGHT_GRADIENT


@dataclasses.dataclass(frozen=True)
class Rule:
  """How a device chooses among tasks that could start.

  Attributes:
    in_flight: For each cell, how many micro-batches may be between F and B.
    forwards_first: Whether an F goes before a B, as long as it may.
    deepest_first: Whether of several F that of the last cell goes first, and of
      several B that of the first cell; otherwise that of the oldest
      micro-batch.
    waits: Whether a W does not start that would still run when a known B or F
      arrives.
  """

  in_flight: tuple[int, ...]
  forwards_first: bool = False
  deepest_first: bool = True
  waits: bool = False


class ListScheduler:
  """One run on paper."""

  def __init__(self, problem: OrderProblem, rule: Rule):
    self._problem = problem
    self._rule = rule
    self._cells = problem.device_cells()
    num_cells, num_devices = problem.num_cells, problem.num_devices
    # For each cell, when the tasks of each kind that were chosen end.
    self._ends: dict[task_lib.TaskKind, list[list[float]]] = {
      kind: [[] for _ in range(num_cells)] for kind in task_lib.TaskKind
    }
    self._free = [0.0] * num_devices
    self._stashed = [0.0] * num_devices
    self._rows: list[list[task_lib.Task]] = [[] for _ in range(num_devices)]

  def run(self) -> list[list[task_lib.Task]]:
    """Each device's tasks in order."""
    problem = self._problem
    num_backwards = problem.num_cells - problem.first_backward
    left = (problem.num_cells + 2 * num_backwards) * problem.num_micro_batches
    choices = [self._choose(device) for device in range(problem.num_devices)]
    for _ in range(left):
      device = min(
        (d for d, choice in enumerate(choices) if choice is not None),
        key=lambda d: choices[d][0],  # type: ignore[index]
      )
      choice = choices[device]
      assert choice is not None
      start, kind, cell = choice
      self._start(device, start, kind, cell)
      changed = {device}
      if kind == _FORWARD and cell + 1 < problem.num_cells:
        changed.add(problem.cell_devices[cell + 1])
      if kind == _BACKWARD and cell > problem.first_backward:
        changed.add(problem.cell_devices[cell - 1])
      elif kind == _BACKWARD:
        # The cells before it have no backward passes, and wait for its.
        changed.update(problem.cell_devices[:cell])
      for d in changed:
        choices[d] = self._choose(d)
    return self._rows

  def _start(
    self, device: int, start: float, kind: task_lib.TaskKind, cell: int
  ) -> None:
    """Runs the next task of a kind and a cell."""
    ends = self._ends[kind][cell]
    task = task_lib.Task(kind, cell, len(ends))
    end = start + self._problem.duration(task)
    ends.append(end)
    self._free[device] = end
    self._rows[device].append(task)
    if cell >= self._problem.first_backward:
      if kind == _FORWARD:
        self._stashed[device] += self._problem.stash[cell]
      elif kind == _WEIGHT_GRADIENT:
        self._stashed[device] -= self._problem.stash[cell]

  def _choose(self, device: int) -> tuple[float, task_lib.TaskKind, int] | None:
    """The start, kind and cell of the task that a device would run next."""
    free = self._free[device]
    passes, weight_gradients = [], []
    for cell in self._cells[device]:
      for kind in (_FORWARD, _BACKWARD):
        arrival = self._arrival(kind, cell)
        if arrival is not None and (
          kind == _BACKWARD or self._may_go_forward(device, cell)
        ):
          urgency = self._urgency(kind, cell)
          passes.append((max(free, arrival), urgency, kind, cell))
      done = len(self._ends[_WEIGHT_GRADIENT][cell])
      if done < len(self._ends[_BACKWARD][cell]):
        weight_gradients.append((done, -cell, cell))
    first = min((start for start, *_ in passes), default=None)
    if weight_gradients and first != free:
      cell = min(weight_gradients)[-1]
      end = free + self._problem.weight_gradient[cell]
      if first is None or end <= first or not self._rule.waits:
        return free, _WEIGHT_GRADIENT, cell
    if first is None:
      return None
    _, _, kind, cell = min(option for option in passes if option[0] == first)
    return first, kind, cell

  def _arrival(self, kind: task_lib.TaskKind, cell: int) -> float | None:
    """When the next task of a kind and a cell has what it needs, if known."""
    problem, ends = self._problem, self._ends
    m = len(ends[kind][cell])
    if m == problem.num_micro_batches:
      return None
    if kind == _FORWARD:
      if cell == 0:
        return 0.0
      before = ends[_FORWARD][cell - 1]
      boundary = cell - 1
    else:
      if cell < problem.first_backward or m >= len(ends[_FORWARD][cell]):
        return None
      if cell == problem.num_cells - 1:
        return ends[_FORWARD][cell][m]
      before = ends[_BACKWARD][cell + 1]
      boundary = cell
    return before[m] + problem.transfers[boundary] if m < len(before) else None

  def _urgency(
    self, kind: task_lib.TaskKind, cell: int
  ) -> tuple[bool, int, int]:
    """Smaller is more urgent."""
    is_forward = kind == _FORWARD
    depth = -cell if is_forward else cell
    m = len(self._ends[kind][cell])
    order = (depth, m) if self._rule.deepest_first else (m, depth)
    return is_forward != self._rule.forwards_first, *order

  def _may_go_forward(self, device: int, cell: int) -> bool:
    """Whether there is room for another micro-batch in a cell."""
    problem = self._problem
    m = len(self._ends[_FORWARD][cell])
    counting = max(cell, problem.first_backward)
    if counting < problem.num_cells:
      done = len(self._ends[_BACKWARD][counting])
      if m - done >= self._rule.in_flight[cell]:
        return False
    limit = problem.limits[device]
    if limit is None or cell < problem.first_backward:
      return True
    return self._can_finish(device, cell, limit)

  def _can_finish(self, device: int, cell: int, limit: float) -> bool:
    """Whether all micro-batches can still end if one more goes into a cell.

    They can, one after the other from the oldest, if each finds room for what
    it does not stash on the device yet, once those before it are gone.
    """
    problem, ends = self._problem, self._ends
    cells = [c for c in self._cells[device] if c >= problem.first_backward]
    begun = {c: len(ends[_FORWARD][c]) + (c == cell) for c in cells}
    done = {c: len(ends[_WEIGHT_GRADIENT][c]) for c in cells}
    stashed = self._stashed[device] + problem.stash[cell]
    for m in range(min(done.values()), max(begun.values())):
      to_come = sum(problem.stash[c] for c in cells if begun[c] <= m)
      if stashed + to_come > limit:
        return False
      stashed -= sum(problem.stash[c] for c in cells if done[c] <= m < begun[c])
    return True


def rules(problem: OrderProblem, limits: Sequence[int]) -> list[Rule]:
  """The rules to try.

  Args:
    problem: The pipeline.
    limits: For each cell, the micro-batches in flight that 1F1B needs.
  """
  most = problem.num_micro_batches
  caps = []
  for factor in (1.0, 1.25, 1.5, 2.0, 3.0):
    cap = tuple(min(most, int(limit * factor + 0.5)) for limit in limits)
    if cap not in caps:
      caps.append(cap)
  caps.append((most,) * problem.num_cells)
  is_shared = problem.num_cells > problem.num_devices
  return [
    Rule(cap, forwards_first, deepest_first, waits)
    for cap in dict.fromkeys(caps)
    for forwards_first in (False, True)
    for deepest_first in ((True, False) if is_shared else (True,))
    for waits in (False, True)
  ]
