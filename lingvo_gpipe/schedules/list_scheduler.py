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

No rule for what is most urgent is best for all pipelines, so several are tried.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from lingvo_gpipe.schedules.order_problem import OrderProblem
from lingvo_gpipe.schedules.slot_filling import in_flight_limits
from lingvo_gpipe.schedules.task import Rows, Task, TaskKind

_FORWARD, _BACKWARD, _WEIGHT_GRADIENT = TaskKind


def by_rules(problem: OrderProblem) -> Iterator[Rows]:
  most = problem.num_micro_batches
  limits = in_flight_limits(problem.cell_devices, most)
  caps = [
    tuple(min(most, int(limit * factor + 0.5)) for limit in limits)
    for factor in (1.0, 1.25, 1.5, 2.0, 3.0)
  ]
  caps.append((most,) * problem.num_cells)
  shares = problem.num_cells > problem.num_devices
  for rule in itertools.product(
    dict.fromkeys(caps),
    (False, True),
    (True, False) if shares else (True,),
    (False, True),
  ):
    yield _Run(problem, *rule).run()


@dataclasses.dataclass
class _Run:
  """One run on paper, by a rule.

  Attributes:
    in_flight: For each cell, how many micro-batches may be between F and B.
    forwards_first: Whether an F goes before a B, as long as it may.
    deepest_first: Whether of several F that of the last cell goes first, and of
      several B that of the first; otherwise that of the oldest micro-batch.
    waits: Whether a W does not start that would still run when a known B or F
      arrives.
  """

  problem: OrderProblem
  in_flight: Sequence[int]
  forwards_first: bool
  deepest_first: bool
  waits: bool

  def __post_init__(self) -> None:
    problem = self.problem
    self._cells = problem.device_cells()
    # For each cell, when the tasks of each kind that were chosen end.
    self._ends: dict[TaskKind, list[list[float]]] = {
      kind: [[] for _ in range(problem.num_cells)] for kind in TaskKind
    }
    self._free = [0.0] * problem.num_devices

  def run(self) -> Rows:
    problem = self.problem
    rows: list[list[Task]] = [[] for _ in self._cells]
    choices = {d: self._choose(d) for d in range(problem.num_devices)}
    while True:
      able = [(c[0], d) for d, c in choices.items() if c is not None]
      if not able:
        return rows
      _, device = min(able)
      start, kind, cell = choices[device]  # type: ignore[misc]
      ends = self._ends[kind][cell]
      task = Task(kind, cell, len(ends))
      rows[device].append(task)
      self._free[device] = start + problem.duration(task)
      ends.append(self._free[device])
      for d in self._changed_by(task):
        choices[d] = self._choose(d)

  def _changed_by(self, task: Task) -> set[int]:
    """The devices that a task may give something to do."""
    devices, cell = self.problem.cell_devices, task.cell
    changed = {devices[cell]}
    if task.kind == _FORWARD:
      changed.update(devices[cell + 1 : cell + 2])
    elif task.kind == _BACKWARD and cell > self.problem.first_backward:
      changed.add(devices[cell - 1])
    elif task.kind == _BACKWARD:
      # The cells before it have no backward passes, and wait for its.
      changed.update(devices[:cell])
    return changed

  def _choose(self, device: int) -> tuple[float, TaskKind, int] | None:
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
        weight_gradients.append((done, -cell))
    first = min((start for start, *_ in passes), default=None)
    if weight_gradients and first != free:
      cell = -min(weight_gradients)[1]
      end = free + self.problem.weight_gradient[cell]
      if first is None or end <= first or not self.waits:
        return free, _WEIGHT_GRADIENT, cell
    if first is None:
      return None
    _, _, kind, cell = min(option for option in passes if option[0] == first)
    return first, kind, cell

  def _arrival(self, kind: TaskKind, cell: int) -> float | None:
    """When the next task of a kind and a cell has what it needs, if known."""
    problem, ends = self.problem, self._ends
    m = len(ends[kind][cell])
    if m == problem.num_micro_batches:
      return None
    if kind == _FORWARD:
      if cell == 0:
        return 0.0
      source = cell - 1
    else:
      if cell < problem.first_backward or m >= len(ends[_FORWARD][cell]):
        return None
      if cell == problem.num_cells - 1:
        return ends[_FORWARD][cell][m]
      source = cell + 1
    before = ends[kind][source]
    if m >= len(before):
      return None
    return before[m] + problem.transfer(source, cell)

  def _urgency(self, kind: TaskKind, cell: int) -> tuple[bool, int, int]:
    """Smaller is more urgent."""
    is_forward = kind == _FORWARD
    depth = -cell if is_forward else cell
    m = len(self._ends[kind][cell])
    order = (depth, m) if self.deepest_first else (m, depth)
    return is_forward != self.forwards_first, *order

  def _may_go_forward(self, device: int, cell: int) -> bool:
    problem = self.problem
    m = len(self._ends[_FORWARD][cell])
    counting = max(cell, problem.first_backward)
    done = len(self._ends[_BACKWARD][counting])
    if m - done >= self.in_flight[cell]:
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
    stash, ends = self.problem.stash, self._ends
    first = self.problem.first_backward
    cells = [c for c in self._cells[device] if c >= first]
    begun = {c: len(ends[_FORWARD][c]) + (c == cell) for c in cells}
    done = {c: len(ends[_WEIGHT_GRADIENT][c]) for c in cells}
    stashed = sum(stash[c] * (begun[c] - done[c]) for c in cells)
    for m in range(min(done.values()), max(begun.values())):
      to_come = sum(stash[c] for c in cells if begun[c] <= m)
      if stashed + to_come > limit:
        return False
      stashed -= sum(stash[c] for c in cells if done[c] <= m < begun[c])
    return True
