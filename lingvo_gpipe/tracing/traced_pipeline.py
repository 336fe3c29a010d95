# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""All that was found of one pipeline in the traced steps."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence

from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.tracing import advice
from lingvo_gpipe.tracing.analysis import (
  Analysis,
  analyse,
  transfer_times,
  typical,
)
from lingvo_gpipe.tracing.cell_times import CellTimes, cell_times
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is known of a pipeline besides its trace.

  Attributes:
    model: The model's name.
    name: The pipeline's path in the model.
    layers: For each cell, what it is made of, as text.
    recompute: The recompute policy.
    loss_inside: Whether the loss is in the last cell.
    num_examples: The examples in a mini-batch, None if not known.
    cut: How the layers were cut, None if their costs are not known.
    num_cores: How many cores this machine lets the devices have.
    are_cpus: Whether the devices are CPUs.
  """

  model: str
  name: str
  layers: tuple[str, ...]
  recompute: str
  loss_inside: bool
  num_examples: int | None = None
  cut: Partition | None = None
  num_cores: int = 1
  are_cpus: bool = True


class TracedPipeline:
  """Several traced steps of a pipeline, analysed.

  Attributes:
    setup: What is known besides.
    analyses: The steps by their numbers, ascending.
    untraced_seconds: The median of steps just before that were not traced;
      None if there were none.
  """

  def __init__(
    self,
    setup: Setup,
    steps: Mapping[int, MeasuredStep],
    untraced_seconds: Sequence[float] = (),
  ):
    self.setup = setup
    self.analyses: dict[int, Analysis] = {
      number: analyse(step) for number, step in sorted(steps.items())
    }
    self.untraced_seconds = (
      statistics.median(untraced_seconds) if untraced_seconds else None
    )

  @functools.cached_property
  def shown_step(self) -> int:
    """The number of the step of median length, which pictures show."""
    shown = typical(list(self.analyses.values()))
    return next(n for n, a in self.analyses.items() if a is shown)

  @property
  def shown(self) -> Analysis:
    """That step."""
    return self.analyses[self.shown_step]

  @property
  def steps(self) -> list[MeasuredStep]:
    return [analysis.measured for analysis in self.analyses.values()]

  @functools.cached_property
  def times(self) -> CellTimes:
    """What the cells cost."""
    return cell_times(self.steps)

  @property
  def bubble(self) -> float:
    """The measured bubble, median of the steps."""
    return statistics.median(a.bubble for a in self.analyses.values())

  @property
  def predicted_bubble(self) -> float:
    """The simulator's for the measured durations, median of the steps."""
    return statistics.median(a.predicted_bubble for a in self.analyses.values())

  @property
  def concurrency(self) -> float:
    """How many devices ran tasks at once, on average; median of the steps."""
    return statistics.median(a.concurrency for a in self.analyses.values())

  @property
  def utilisation(self) -> list[float]:
    """The share of the time in which each device ran tasks; medians."""
    rows = zip(*(a.utilisation for a in self.analyses.values()), strict=True)
    return [statistics.median(row) for row in rows]

  @property
  def step_seconds(self) -> float:
    """A traced step; median."""
    return statistics.median(step.seconds for step in self.steps)

  @property
  def pipeline_seconds(self) -> float:
    """From the start of the first task to the end of the last; median."""
    return statistics.median(step.length for step in self.steps)

  @property
  def before_seconds(self) -> float:
    """From the client's call to the first task's start; median."""
    return statistics.median(step.before for step in self.steps)

  @property
  def after_seconds(self) -> float:
    """From the last task's end to that of the step's last op; median."""
    return statistics.median(
      max(0.0, step.seconds - step.before - step.length) for step in self.steps
    )

  @functools.cached_property
  def transfer_times(self) -> tuple[float, ...]:
    """For each boundary, how long results travel; median."""
    return transfer_times(self.steps)

  @functools.cached_property
  def proposals(self) -> list[advice.Proposal]:
    """What would make a step shorter, most first."""
    shown = self.shown
    waits = shown.measured.length - float(shown.predicted.step_time)
    return advice.proposals(
      advice.Situation(
        schedule=shown.measured.schedule,
        times=self.times,
        transfer_times=self.transfer_times,
        delay=statistics.median(a.delay for a in self.analyses.values()),
        step=self.step_seconds,
        outside=max(0.0, self.step_seconds - self.pipeline_seconds),
        waits=max(0.0, waits),
        loss_inside=self.setup.loss_inside,
        recompute=self.setup.recompute,
        num_examples=self.setup.num_examples,
        cut=self.setup.cut,
      )
    )
