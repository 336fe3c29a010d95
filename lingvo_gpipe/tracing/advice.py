# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What would make a traced step shorter, and by how much.

Each proposal is simulated with the measured times of the cells and the usual
delay of a task, and compared with the same simulation of what ran.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import (
  Partition,
  PartitionError,
  partition,
)
from lingvo_gpipe.schedules import Schedule, TaskKind
from lingvo_gpipe.schedules.registry import fits
from lingvo_gpipe.tracing.measured_step import TracedPipeline

_F = TaskKind.FORWARD
_B = TaskKind.BACKWARD
_W = TaskKind.WEIGHT_GRADIENT

# The share of a step that a proposal must gain to be worth a change.
WORTH = 0.01

# Seconds that the tasks of a kind and cell take.
_Times = Mapping[tuple[TaskKind, int], float]


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A change, and what it is expected to gain."""

  change: str
  gain_seconds: float  # Of a step; less than 0 if it gets longer.
  gain_share: float  # The same as a share of the step.
  condition: str  # What the number rests on, or ''.
  setting: str | None  # Flag or Param; None for a bound.


def proposals(traced: TracedPipeline) -> list[Proposal]:
  """Settings, then bounds; what gains most comes first."""
  adviser = _Adviser(traced)
  found = [
    *adviser.cuts(),
    *adviser.micro_batches(),
    *adviser.other_schedules(),
    *adviser.recompute(),
    *adviser.transfers(),
  ]
  return sorted(found, key=lambda p: (p.setting is None, -p.gain_seconds))


class _Adviser:
  def __init__(self, traced: TracedPipeline):
    self._traced = traced
    self._schedule = traced.shown.schedule
    self._times = traced.times
    self._delay = traced.median(lambda step: step.delay)
    self._before = self._seconds()

  def _seconds(
    self,
    times: _Times | None = None,
    schedule: Schedule | None = None,
    transfer_times: Sequence[float] | None = None,
  ) -> float:
    """The pipeline's simulated time; what is not given is as it was."""
    if transfer_times is None:
      transfer_times = self._traced.transfer_times
    times = times or self._times
    return float(
      schedules.simulate(
        schedule or self._schedule,
        {key: time + self._delay for key, time in times.items()},
        transfer_times,
      ).step_time
    )

  def _proposal(
    self,
    change: str,
    seconds: float,
    condition: str,
    setting: str | None = None,
  ) -> Proposal:
    gain = self._before - seconds
    share = gain / self._traced.step_seconds
    return Proposal(change, gain, share, condition, setting)

  def _made(self, name: str, num_micro_batches: int) -> Schedule:
    s = self._schedule
    return schedules.make_schedule(
      name,
      s.cell_devices,
      num_micro_batches,
      forward_only=s.forward_only,
      first_backward=s.first_backward,
    )

  def cuts(self) -> Iterator[Proposal]:
    """The bound of equal cells, and the best cut."""
    cells = range(self._schedule.num_cells)
    if len(cells) == 1:
      return
    even = {
      (kind, k): statistics.fmean(self._times.get((kind, j), 0) for j in cells)
      for kind, k in self._times
    }
    yield self._proposal(
      'cells that all take equally long',
      self._seconds(even),
      'layers cannot be divided at will',
    )
    cut = self._traced.cut
    best = self._best_cut(cut) if cut else None
    if cut and best and best.splits != cut.splits:
      yield self._proposal(
        f'cut the layers at {list(best.splits)} instead of {list(cut.splits)}',
        self._seconds(self._times_of(best)),
        "within a cell, each layer's share is taken from the plan",
        f'splits={list(best.splits)}',
      )

  def _best_cut(self, cut: Partition) -> Partition | None:
    layers = [
      layer
      for cell in cut.cells
      for layer in self._measured(cut.layers[cell.start : cell.end], cell.index)
    ]
    spec = cut.spec
    if self._schedule.forward_only:
      spec = dataclasses.replace(spec, recompute='never')
    try:
      return partition(layers, spec)
    except PartitionError:
      return None

  def _measured(
    self, layers: Sequence[LayerCost], cell: int
  ) -> Iterator[LayerCost]:
    """A cell's layers, with their planned shares of the measured times."""
    weights = self._times.get((_W, cell), 0.0)
    backward = self._times.get((_B, cell), 0.0)
    backward -= min(backward, self._traced.recompute_times[cell])
    backward += weights
    planned_forward = sum(layer.forward for layer in layers) or 1
    planned_backward = sum(layer.backward for layer in layers) or 1
    for layer in layers:
      yield dataclasses.replace(
        layer,
        forward=self._times[_F, cell] * float(layer.forward / planned_forward),
        backward=backward * float(layer.backward / planned_backward),
        weight_share=weights / backward if weights else None,
      )

  def _times_of(self, cut: Partition) -> _Times:
    s = self._schedule
    problem = cut.order_problem(
      s.cell_devices, s.num_micro_batches, s.first_backward
    )
    return {
      (task.kind, task.cell): problem.duration(task, is_split=s.is_split)
      for task in s.in_order()
    }

  def micro_batches(self) -> Iterator[Proposal]:
    before = self._schedule.num_micro_batches
    num_examples = self._traced.num_examples
    name = self._schedule.name
    if name not in schedules.schedule_names():
      name = schedules.SCHEDULE_NAMES[0]
    for factor in (2, 4):
      after = factor * before
      if num_examples is None or after <= num_examples:
        yield self._proposal(
          f'{after} micro-batches instead of {before}',
          self._seconds(
            {key: time / factor for key, time in self._times.items()},
            self._made(name, after),
            [time / factor for time in self._traced.transfer_times],
          ),
          'if a task takes as much less time as it has fewer examples',
          f'--micro_batches={after}',
        )

  def other_schedules(self) -> Iterator[Proposal]:
    """Those that the cells' devices allow, if the loss is inside."""
    s = self._schedule
    if s.forward_only or not self._traced.loss_inside:
      return
    for name in schedules.schedule_names():
      # To look for the order of 'auto' takes long.
      if name in (s.name, 'auto') or not fits(name, s.cell_devices):
        continue
      made = self._made(name, s.num_micro_batches)
      condition = ''
      if made.is_split and not s.is_split:
        part = 'their planned part' if self._traced.cut else 'half'
        condition = f'if weight gradients take {part} of a backward'
      yield self._proposal(
        f'schedule {name} instead of {s.name}',
        self._seconds(self._times_in(made), made),
        condition,
        f'--schedule={name}',
      )

  def _times_in(self, other: Schedule) -> _Times:
    """The times under a schedule that recomputes or splits otherwise.

    Recomputing a micro-batch takes as long as it did; as its forward, if none
    was recomputed.
    """
    times = dict(self._times)
    before, after = (
      schedules.recomputed(schedule, self._traced.recompute)
      for schedule in (self._schedule, other)
    )
    for k in range(other.first_backward, other.num_cells):
      again = self._traced.recompute_times[k]
      one = times[_F, k] / other.num_micro_batches
      if before[k]:
        one = again / len(before[k])
      # What does not go into recomputing.
      rest = max(times[_B, k] - again, 0.0)
      again += one * (len(after[k]) - len(before[k]))
      weights = times.pop((_W, k), 0.0)
      if not other.is_split:
        rest, weights = rest + weights, 0.0
      elif not self._schedule.is_split:
        weights = rest * self._weight_share(k)
        rest -= weights
      times[_B, k] = rest + again
      if other.is_split:
        times[_W, k] = weights
    return times

  def _weight_share(self, cell: int) -> float:
    """The planned share of weight gradients in a cell's backward pass."""
    cut = self._traced.cut
    layers = cut.cells[cell].layers if cut else ()
    whole = float(sum(layer.backward for layer in layers))
    of_weights = float(sum(layer.weight_gradient for layer in layers))
    return of_weights / whole if whole else 0.5

  def recompute(self) -> Iterator[Proposal]:
    again, policy = self._traced.recompute_times, self._traced.recompute
    if policy != 'never' and any(again):
      times = {
        (kind, k): max(0.0, time - again[k]) if kind == _B else time
        for (kind, k), time in self._times.items()
      }
      yield self._proposal(
        f'recompute never instead of {policy}',
        self._seconds(times),
        'if the devices have enough memory for what the cells then keep',
        '--recompute=never',
      )

  def transfers(self) -> Iterator[Proposal]:
    times = self._traced.transfer_times
    if any(times):
      yield self._proposal(
        'transfers that take no time',
        self._seconds(transfer_times=[0.0] * len(times)),
        'faster links, or cuts where less crosses',
      )
