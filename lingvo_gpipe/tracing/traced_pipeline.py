# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""All that was found of one pipeline in the traced steps."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping

from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import measured_step
from lingvo_gpipe.tracing.measured_step import MeasuredStep


@dataclasses.dataclass
class TracedPipeline:
  """Several traced steps of a pipeline. Figures are medians of the steps.

  Attributes:
    name: The pipeline's path in the model.
    layers: For each cell, what it is made of, as text.
    recompute: The recompute policy.
    steps: The steps by their numbers, ascending; at least one.
    cut: How the layers were cut, None if their costs are not known.
    num_cores: How many cores this machine lets the devices have.
    untraced_seconds: The median of steps just before that were not traced;
      None if there were none.
  """

  model: str
  name: str
  layers: tuple[str, ...]
  recompute: str
  loss_inside: bool
  steps: Mapping[int, MeasuredStep]
  num_examples: int | None = None
  cut: Partition | None = None
  num_cores: int = 1
  are_cpus: bool = True
  untraced_seconds: float | None = None

  def median(self, figure: Callable[[MeasuredStep], float]) -> float:
    """The median of a figure of the steps."""
    return statistics.median(map(figure, self.steps.values()))

  @functools.cached_property
  def shown_step(self) -> int:
    """The number of the step of median length, which pictures show."""
    numbers = sorted(self.steps, key=lambda n: self.steps[n].length)
    return numbers[(len(numbers) - 1) // 2]

  @property
  def shown(self) -> MeasuredStep:
    return self.steps[self.shown_step]

  @functools.cached_property
  def times(self) -> dict[tuple[TaskKind, int], float]:
    """What the tasks of a kind and cell take: the mean over micro-batches."""
    durations: dict[tuple[TaskKind, int], list[float]] = {}
    for task in self.shown.schedule.in_order():
      durations.setdefault((task.kind, task.cell), []).append(
        statistics.median(step.duration(task) for step in self.steps.values())
      )
    return {key: statistics.fmean(times) for key, times in durations.items()}

  @functools.cached_property
  def recompute_times(self) -> list[float]:
    """How much of that goes into running each cell's forward pass again."""
    schedule = self.shown.schedule
    sums = [0.0] * schedule.num_cells
    for task in schedule.in_order():
      sums[task.cell] += statistics.median(
        step.recompute.get(task, 0.0) for step in self.steps.values()
      )
    return [total / schedule.num_micro_batches for total in sums]

  @functools.cached_property
  def cell_seconds(self) -> list[float]:
    """All that a micro-batch costs in each cell."""
    return [
      sum(time for (_, cell), time in self.times.items() if cell == k)
      for k in range(self.shown.schedule.num_cells)
    ]

  @functools.cached_property
  def transfer_times(self) -> list[float]:
    """For each boundary, how long results travel."""
    return measured_step.transfer_times(list(self.steps.values()))

  @property
  def step_seconds(self) -> float:
    return self.median(lambda step: step.seconds)

  @property
  def pipeline_seconds(self) -> float:
    """From the start of the first task to the end of the last."""
    return self.median(lambda step: step.length)
