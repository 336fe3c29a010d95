# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""All that was found of one pipeline in the traced steps."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.tracing import analysis
from lingvo_gpipe.tracing.analysis import Analysis, CellTimes
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is known of a pipeline besides its trace.

  Attributes:
    name: The pipeline's path in the model.
    layers: For each cell, what it is made of, as text.
    cut: How the layers were cut, None if their costs are not known.
    num_cores: How many cores this machine lets the devices have.
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
  """Several traced steps of a pipeline. Figures are medians of the steps.

  Attributes:
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
    self.steps = [step for _, step in sorted(steps.items())]
    self.analyses = {
      number: Analysis(step) for number, step in sorted(steps.items())
    }
    self.untraced_seconds = (
      statistics.median(untraced_seconds) if untraced_seconds else None
    )

  def median(self, figure: Callable[[Analysis], float]) -> float:
    """The median of a figure of the steps."""
    return statistics.median(map(figure, self.analyses.values()))

  @functools.cached_property
  def shown_step(self) -> int:
    """The number of the step of median length, which pictures show."""
    numbers = sorted(
      self.analyses, key=lambda n: self.analyses[n].measured.length
    )
    return numbers[(len(numbers) - 1) // 2]

  @property
  def shown(self) -> Analysis:
    """That step."""
    return self.analyses[self.shown_step]

  @functools.cached_property
  def times(self) -> CellTimes:
    """What the cells cost."""
    return analysis.cell_times(self.steps)

  @functools.cached_property
  def transfer_times(self) -> tuple[float, ...]:
    """For each boundary, how long results travel."""
    return analysis.transfer_times(self.steps)

  @property
  def concurrency(self) -> float:
    """How many devices ran tasks at once, on average."""
    return self.median(lambda a: a.concurrency)

  @property
  def utilisation(self) -> list[float]:
    """The share of the time in which each device ran tasks."""
    rows = zip(*(a.utilisation for a in self.analyses.values()), strict=True)
    return [statistics.median(row) for row in rows]

  @property
  def step_seconds(self) -> float:
    """A traced step."""
    return self.median(lambda a: a.measured.seconds)

  @property
  def pipeline_seconds(self) -> float:
    """From the start of the first task to the end of the last."""
    return self.median(lambda a: a.measured.length)
