# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's throughputs beside the simulated ones, and why they differ."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from lingvo_gpipe.planner.model_costs import ModelCosts
from tools.paper import paper_facts
from tools.paper.paper_throughput import (
  ALTERNATIVES,
  AS_STATED,
  Assumptions,
  Step,
  simulate_step,
)

# A simulated throughput this near to the published one agrees with it.
NEAR = 0.1


@dataclasses.dataclass(frozen=True)
class ThroughputRow:
  """A published throughput and what was simulated.

  Attributes:
    num_micro_batches: M.
    num_cells: K.
    published: The published throughput.
    step: The step as stated.
    simulated: The throughput under each of some assumptions, by their name,
      relative to that of the reference under the same assumptions.
    reference: (M, K) of the throughput that is 1.
    reference_step: Its step.
  """

  num_micro_batches: int
  num_cells: int
  published: float
  step: Step
  simulated: Mapping[str, float]
  reference: tuple[int, int]
  reference_step: Step

  @property
  def is_reference(self) -> bool:
    """Whether its throughput is 1 by definition."""
    return (self.num_micro_batches, self.num_cells) == self.reference

  @property
  def stated(self) -> float:
    """The throughput as stated."""
    return self.simulated[AS_STATED.name]

  @property
  def difference(self) -> float:
    """By how much that is more than published, as a share of it."""
    return self.stated / self.published - 1

  @property
  def bound(self) -> float:
    """What equal cells reach that wait for nothing but each other."""
    own = ideal(self.num_micro_batches, self.num_cells)
    return own / ideal(*self.reference)


def ideal(num_micro_batches: int, num_cells: int) -> float:
  """How much faster than one device K equal cells are: K M / (M + K - 1)."""
  slots = num_micro_batches + num_cells - 1
  return num_cells * num_micro_batches / slots


def throughput_rows(
  half: paper_facts.Throughputs, costs: ModelCosts
) -> list[ThroughputRow]:
  """Simulates all steps of half a table, under all alternatives.

  Args:
    half: What is published, and on what to simulate it.
    costs: What the model's layers cost.
  """
  steps = {
    other.name: {
      (m, k): simulate_step(costs, half.device, k, m, half.mini_batch, other)
      for m, k in half.published
    }
    for other in alternatives(half)
  }
  stated = steps[AS_STATED.name]
  return [
    ThroughputRow(
      num_micro_batches=m,
      num_cells=k,
      published=value,
      step=stated[m, k],
      simulated={
        name: found[half.reference].time / found[m, k].time
        for name, found in steps.items()
      },
      reference=half.reference,
      reference_step=stated[half.reference],
    )
    for (m, k), value in half.published.items()
  ]


def alternatives(half: paper_facts.Throughputs) -> tuple[Assumptions, ...]:
  """The assumptions that make a difference to half a table."""
  has_one = any(m == 1 for m, _ in half.published)
  has_short = half.precision == 'bfloat16'
  return tuple(
    other
    for other in ALTERNATIVES
    if (has_one or other.recompute_alone) and (has_short or not other.doubled)
  )


def mean_difference(rows: Sequence[ThroughputRow], name: str) -> float:
  """How far assumptions are from what is published, as a factor less 1.

  The geometric mean, over all but the reference; 0.1 is 10% in either
  direction.
  """
  logs = [_distance(row, name) for row in rows if not row.is_reference]
  return math.exp(sum(logs) / len(logs)) - 1


def explain(row: ThroughputRow) -> str:
  """The likely reason of the difference, from the alternatives."""
  if row.is_reference:
    return 'the reference'
  if abs(row.difference) <= NEAR:
    return 'agrees'
  if row.published > row.bound:
    return _explain_above(row)
  nearest = _nearest(row, list(row.simulated))
  if abs(row.simulated[nearest] / row.published - 1) <= NEAR:
    return f'agrees with {_said(row, nearest)}'
  below = [name for name in row.simulated if _is_below(row, name)]
  above = [name for name in row.simulated if not _is_below(row, name)]
  if not below or not above:
    return f'not explained; nearest is {_said(row, nearest)}'
  lower, upper = _nearest(row, below), _nearest(row, above)
  return (
    f'not explained; it lies between {_said(row, lower)} and '
    f'{_said(row, upper)}'
  )


def _explain_above(row: ThroughputRow) -> str:
  """No pipeline of one batch size is as fast as published."""
  text = f'above the bound of {row.bound:.2f} for one batch size'
  if row.num_micro_batches == 1:
    text = 'one device works at a time, whatever K is, if the batch stays'
  ours = row.step.fitting_examples
  theirs = row.reference_step.fitting_examples
  if ours > theirs:
    return (
      f'{text}: it may have grown, as memory holds {ours} examples here and '
      f'{theirs} in the reference'
    )
  return f'{text}: the reference must have run a smaller one'


def _nearest(row: ThroughputRow, names: Sequence[str]) -> str:
  """The first of the assumptions that are nearest, within 1%."""
  least = min(_distance(row, name) for name in names)
  return next(name for name in names if _distance(row, name) <= least + 0.01)


def _said(row: ThroughputRow, name: str) -> str:
  return f'"{name}" ({row.simulated[name]:.2f})'


def _is_below(row: ThroughputRow, name: str) -> bool:
  return row.simulated[name] < row.published


def _distance(row: ThroughputRow, name: str) -> float:
  return abs(math.log(row.simulated[name] / row.published))
