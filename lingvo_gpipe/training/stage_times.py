# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the parts of a training run took, as a line in its log."""

import dataclasses
import json
import re
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any


def peak_memory_bytes() -> int:
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclasses.dataclass(frozen=True)
class StageTimes:
  """Times in seconds, resident memory in bytes."""

  loading: float  # Imports and the reading of flags.
  graph: float
  first_step: float  # TensorFlow optimises the graph in it.
  more_steps: int
  median_step: float  # Of these; 0 if there are none.
  total: float
  loaded_memory: float  # After loading.
  peak_memory: float

  @property
  def needed(self) -> float:
    """What loading, building and the steps take, without all else."""
    steps = self.first_step + self.more_steps * self.median_step
    return self.loading + self.graph + steps

  def to_text(self) -> str:
    values = dataclasses.asdict(self)
    return f'Times: {json.dumps({n: round(v, 4) for n, v in values.items()})}'


def from_text(text: str) -> StageTimes:
  """The times of the last such line in a log; ValueError if there is none."""
  found = re.findall(r'Times: (\{.*\})', text)
  if not found:
    raise ValueError('no times in the log: the training did not get that far')
  return StageTimes(**json.loads(found[-1]))


class StageListener:
  """A `StepListener` that takes the times; make it when all is imported.

  A step lasts until the trainer is ready for the next one.
  """

  def __init__(
    self, loading_seconds: float, clock: Callable[[], float] = time.monotonic
  ):
    self._clock = clock
    self._loading = loading_seconds
    self._loaded_memory = peak_memory_bytes()
    self._loaded = self._built = self._started = clock()
    self._steps: list[float] = []

  def trainer_built(self, runner: Any) -> None:
    self._built = self._clock()

  def before_step(self, step: int) -> None:
    self._started = self._clock()

  def after_step(self, step: int, metrics: Any) -> None:
    self._steps.append(self._clock() - self._started)

  def times(self) -> StageTimes | None:
    """The times of a run that ends now; None if no step has run."""
    if not self._steps:
      return None
    first, *more = self._steps
    return StageTimes(
      loading=self._loading,
      graph=self._built - self._loaded,
      first_step=first,
      more_steps=len(more),
      median_step=statistics.median(more) if more else 0.0,
      total=self._clock() - self._loaded + self._loading,
      loaded_memory=self._loaded_memory,
      peak_memory=peak_memory_bytes(),
    )
