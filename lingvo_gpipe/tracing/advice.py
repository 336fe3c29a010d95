# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What would make a traced step shorter, and by how much.

Each proposal is simulated with the measured times of the cells, and compared
with the simulation of what ran: so what a proposal is said to gain is what the
change itself gains, while delays that the simulator does not know of stay.
"""

import dataclasses
from collections.abc import Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import PartitionError, partition
from lingvo_gpipe.schedules import Schedule, TaskKind
from lingvo_gpipe.schedules.placement import fits
from lingvo_gpipe.tracing.traced_pipeline import TracedPipeline

# Proposals that gain less than this share of a step are not worth a change.
WORTH = 0.01


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A change, and what it is expected to gain.

  Attributes:
    change: What to do, as a sentence's beginning.
    gain_seconds: By how much a step gets shorter; less than 0 if longer.
    gain_share: The same as a share of the step.
    condition: What the number rests on, '' for nothing in particular.
    setting: Flags or Params that make the change; None if it is a bound that
      no single setting reaches.
  """

  change: str
  gain_seconds: float
  gain_share: float
  condition: str = ''
  setting: str | None = None


def proposals(traced: TracedPipeline) -> list[Proposal]:
  """All proposals, the one that gains most first."""
  adviser = _Adviser(traced)
  found = [
    *adviser.cuts(),
    *adviser.micro_batches(),
    *adviser.other_schedules(),
    *adviser.recompute(),
    *adviser.transfers(),
    *adviser.waits(),
  ]
  return sorted(found, key=lambda proposal: -proposal.gain_seconds)


class _Adviser:
  """Simulates changes of what ran."""

  def __init__(self, traced: TracedPipeline):
    self._traced = traced
    self._setup = traced.setup
    self._schedule = traced.shown.measured.schedule
    self._times = traced.times
    self._of = traced.times.of
    self._delay = traced.median(lambda a: a.delay)
    self._base = self._simulated()

  def _simulated(
    self,
    of: dict[tuple[TaskKind, int], float] | None = None,
    schedule: Schedule | None = None,
    transfer_times: Sequence[float] | None = None,
  ) -> float:
    """The pipeline's seconds, with what is not given as it was."""
    of = self._of if of is None else of
    if transfer_times is None:
      transfer_times = self._traced.transfer_times
    return float(
      schedules.simulate(
        schedule or self._schedule,
        {key: time + self._delay for key, time in of.items()},
        list(transfer_times),
      ).step_time
    )

  def _proposal(
    self,
    change: str,
    gain: float,
    condition: str = '',
    setting: str | None = None,
  ) -> Proposal:
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

  def cuts(self) -> list[Proposal]:
    """The best cut of the layers as measured, and the bound of equal cells."""
    num_cells = self._times.num_cells
    if num_cells == 1:
      return []
    even = {
      (kind, k): sum(self._of[kind, j] for j in range(num_cells)) / num_cells
      for kind, k in self._of
    }
    bound = self._proposal(
      'cells that all take equally long',
      self._base - self._simulated(even),
      'layers cannot be divided at will',
    )
    best = self._best_cut()
    return [bound] if best is None else [bound, best]

  def _best_cut(self) -> Proposal | None:
    """The best cut, each layer's time being its share of its cell's."""
    cut = self._setup.cut
    if cut is None:
      return None
    layers: list[LayerCost] = []
    for cell in cut.cells:
      layers += self._measured(cut.layers[cell.start : cell.end], cell.index)
    spec = cut.spec
    if self._schedule.forward_only:
      spec = dataclasses.replace(spec, recompute='never')
    try:
      best = partition(layers, spec)
    except PartitionError:
      return None
    if best.splits == cut.splits:
      return None
    of: dict[tuple[TaskKind, int], float] = {}
    for cell in best.cells:
      inside = layers[cell.start : cell.end]
      forward = sum(float(layer.forward) for layer in inside)
      of[TaskKind.FORWARD, cell.index] = forward
      rest = float(cell.cost) - forward
      if self._schedule.is_split:
        weights = sum(float(layer.weight_gradient) for layer in inside)
        of[TaskKind.WEIGHT_GRADIENT, cell.index] = weights
        rest -= weights
      of[TaskKind.BACKWARD, cell.index] = rest
    return self._proposal(
      f'cut the layers at {list(best.splits)} instead of {list(cut.splits)}',
      self._base - self._simulated(of),
      "within a cell, each layer's share is taken from the plan",
      f'splits={list(best.splits)}',
    )

  def _measured(
    self, layers: Sequence[LayerCost], cell: int
  ) -> list[LayerCost]:
    """Layers of a cell, each with its planned share of what was measured."""
    forward = self._of[TaskKind.FORWARD, cell]
    backward = self._of.get((TaskKind.BACKWARD, cell), 0.0)
    backward -= min(backward, self._times.recompute[cell])
    weights = self._of.get((TaskKind.WEIGHT_GRADIENT, cell), 0.0)
    backward += weights
    share = weights / backward if weights else None
    return [
      dataclasses.replace(
        layer, forward=f * forward, backward=b * backward, weight_share=share
      )
      for layer, f, b in zip(
        layers,
        _shares([float(layer.forward) for layer in layers]),
        _shares([float(layer.backward) for layer in layers]),
        strict=True,
      )
    ]

  def micro_batches(self) -> list[Proposal]:
    """Twice and four times the micro-batches, as far as there are examples."""
    before = self._schedule.num_micro_batches
    num_examples = self._setup.num_examples
    found = []
    for factor in (2, 4):
      after = factor * before
      if num_examples is not None and after > num_examples:
        break
      of = {key: time / factor for key, time in self._of.items()}
      name = self._schedule.name
      if name not in schedules.schedule_names():
        name = schedules.SCHEDULE_NAMES[0]
      simulated = self._simulated(
        of,
        self._made(name, after),
        [time / factor for time in self._traced.transfer_times],
      )
      found.append(
        self._proposal(
          f'{after} micro-batches instead of {before}',
          self._base - simulated,
          'if a task takes as much less time as it has fewer examples',
          f'--micro_batches={after}',
        )
      )
    return found

  def other_schedules(self) -> list[Proposal]:
    """The others that cells can have where they are, if the loss is inside."""
    s = self._schedule
    if s.forward_only or not self._setup.loss_inside:
      return []
    found = []
    for name in schedules.schedule_names():
      # To look for the order of 'auto' takes long.
      if name in (s.name, 'auto') or not fits(name, s.cell_devices):
        continue
      made = self._made(name, s.num_micro_batches)
      condition = ''
      if made.is_split and not s.is_split:
        condition = 'if weight gradients take their planned part of a backward'
        if self._setup.cut is None:
          condition = 'if weight gradients take half of a backward'
      found.append(
        self._proposal(
          f'schedule {name} instead of {s.name}',
          self._base - self._simulated(self._times_in(made), made),
          condition,
          f'--schedule={name}',
        )
      )
    return found

  def _times_in(self, other: Schedule) -> dict[tuple[TaskKind, int], float]:
    """The times under a schedule that recomputes or splits otherwise.

    Recomputing a micro-batch takes as long as it did; as its forward, if none
    was recomputed.
    """
    of = dict(self._of)
    before, after = (
      schedules.recomputed(schedule, self._setup.recompute)
      for schedule in (self._schedule, other)
    )
    for k in range(other.first_backward, other.num_cells):
      again = self._times.recompute[k]
      one = of[TaskKind.FORWARD, k] / other.num_micro_batches
      if before[k]:
        one = again / len(before[k])
      # What does not go into recomputing.
      rest = max(of[TaskKind.BACKWARD, k] - again, 0.0)
      again += one * (len(after[k]) - len(before[k]))
      weights = of.pop((TaskKind.WEIGHT_GRADIENT, k), 0.0)
      if other.is_split:
        if not self._schedule.is_split:
          weights = rest * self._weight_share(k)
          rest -= weights
        of[TaskKind.WEIGHT_GRADIENT, k] = weights
      else:
        rest += weights
      of[TaskKind.BACKWARD, k] = rest + again
    return of

  def _weight_share(self, cell: int) -> float:
    """The planned share of weight gradients in a cell's backward pass."""
    cut = self._setup.cut
    layers = cut.cells[cell].layers if cut else ()
    whole = float(sum(layer.backward for layer in layers))
    of_weights = float(sum(layer.weight_gradient for layer in layers))
    return of_weights / whole if whole else 0.5

  def recompute(self) -> list[Proposal]:
    """No recomputation, if there is any."""
    again = self._times.recompute
    if self._setup.recompute == 'never' or not any(again):
      return []
    of = {
      (kind, k): max(
        0.0, time - (again[k] if kind == TaskKind.BACKWARD else 0.0)
      )
      for (kind, k), time in self._of.items()
    }
    return [
      self._proposal(
        f'recompute never instead of {self._setup.recompute}',
        self._base - self._simulated(of),
        'if the devices have enough memory for what the cells then keep',
        '--recompute=never',
      )
    ]

  def transfers(self) -> list[Proposal]:
    """Links that take no time."""
    times = self._traced.transfer_times
    if not any(times):
      return []
    return [
      self._proposal(
        'transfers that take no time',
        self._base - self._simulated(transfer_times=[0.0] * len(times)),
        'faster links, or cuts where less crosses',
      )
    ]

  def waits(self) -> list[Proposal]:
    """What the schedule does not ask for."""
    traced, shown = self._traced, self._traced.shown
    waits = shown.measured.length - float(shown.predicted.step_time)
    return [
      self._proposal(
        'tasks that start as soon as they can',
        max(0.0, waits),
        'what the simulator does not know, such as busy cores or threads',
      ),
      self._proposal(
        'nothing outside of the pipeline',
        max(0.0, traced.step_seconds - traced.pipeline_seconds),
        'input, weight updates and all else before the first task and after '
        'the last one',
      ),
    ]


def _shares(values: Sequence[float]) -> list[float]:
  """The values as shares of their sum; equal ones if that is 0."""
  total = sum(values)
  if not total:
    return [1 / len(values)] * len(values)
  return [value / total for value in values]
