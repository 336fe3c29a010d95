# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is measured."""

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import field


@dataclasses.dataclass(frozen=True)
class Cut:
  """How a case's layers are cut into K cells.

  Attributes:
    splits: The first layer of each cell but the first.
    layers: The layers' names.
    costs: For each cell, what forward and backward of a micro-batch take.
    basis: The unit of costs: 'flops', or 'measured' for seconds.
    own: Other cuts, by the methods that they are best for.
  """

  splits: list[int]
  layers: list[str]
  costs: list[tuple[float, float]]
  basis: str
  own: dict[str, 'Cut'] = field(default_factory=dict)


# All layers are one cell, whatever they cost.
UNCUT = Cut([], [], [(1.0, 2.0)], 'flops')


@dataclasses.dataclass
class Measured:
  """What was measured of one variant; lists have an entry a run or a step.

  Attributes:
    graph_seconds: Building the graph and initialising the weights.
    first_step_seconds: The first step, in which TensorFlow prepares the graph.
    step_seconds: Steps after the first.
    one_core_seconds: The same with all threads on one core.
    idle_bytes: Resident memory before the graph was built.
    peak_bytes: The most resident memory after all steps.
    device_bytes: For each device, in a process of its own, the peak above the
      level before the graph was built. Empty if it was not measured.
    losses: The loss of each step of the last run, counted or not.
    version: What was run, if it is not among this interpreter's packages.
    error: Why the variant could not be run; '' if it was.
    memory_error: Why its devices' memory could not be measured, or ''.
  """

  graph_seconds: list[float] = field(default_factory=list)
  first_step_seconds: list[float] = field(default_factory=list)
  step_seconds: list[float] = field(default_factory=list)
  one_core_seconds: list[float] = field(default_factory=list)
  idle_bytes: list[int] = field(default_factory=list)
  peak_bytes: list[int] = field(default_factory=list)
  device_bytes: list[int] = field(default_factory=list)
  losses: list[float] = field(default_factory=list)
  version: str = ''
  error: str = ''
  memory_error: str = ''

  def extend(self, lists: Mapping[str, list[float]]) -> None:
    """Adds to the lists of these names."""
    for name, values in lists.items():
      getattr(self, name).extend(values)

  @property
  def step(self) -> float:
    return statistics.median(self.step_seconds)

  @property
  def spread(self) -> float:
    """Half the distance between the step times' quartiles, by the median."""
    if len(self.step_seconds) < 2:
      return 0.0
    low, middle, high = statistics.quantiles(
      self.step_seconds, n=4, method='inclusive'
    )
    return (high - low) / 2 / middle

  @property
  def above_idle(self) -> float:
    """The peak above the level before building."""
    pairs = zip(self.peak_bytes, self.idle_bytes, strict=True)
    return statistics.median(peak - idle for peak, idle in pairs)


@dataclasses.dataclass(frozen=True)
class WorkerRun:
  """What a step took; lists have an entry a worker, in bytes.

  Attributes:
    peaks: The most resident memory.
    idle: What was there before the graph came.
    data: The most without pages of code, above what there was of it before.
    parameters: Of the model.
    build_seconds: Starting workers, building the graph, initialising weights.
    step_seconds: The first step.
  """

  peaks: list[int]
  idle: list[int]
  data: list[int]
  parameters: int
  build_seconds: float
  step_seconds: float

  @property
  def above_idle(self) -> list[int]:
    return [p - i for p, i in zip(self.peaks, self.idle, strict=True)]
