# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the parts of a training run took, as a line in its log.

command                                                            end
|- loading -|- graph -|- restore -|- first step -|- steps --- save -|
                                         |
                               optimises the graph
"""

import dataclasses
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

_MIB = 2**20
_LINE = re.compile(
  r'Times: loading (?P<loading>[\d.]+) s, graph (?P<graph>[\d.]+) s, first '
  r'step (?P<first_step>[\d.]+) s, then (?P<more_steps>\d+) more, median '
  r'(?P<median_step>[\d.]+) s, all (?P<total>[\d.]+) s; memory '
  r'(?P<loaded_memory>[\d.]+) MiB after loading, (?P<peak_memory>[\d.]+) MiB '
  r'at most'
)


def peak_memory_bytes() -> int:
  """The peak resident memory of this process so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak


@dataclasses.dataclass(frozen=True)
class StageTimes:
  """Times in seconds, memory in bytes.

  Attributes:
    loading: Imports and the reading of flags.
    graph: Building model and graph.
    first_step: The first step, in which TensorFlow optimises the graph.
    more_steps: The number of steps after it.
    median_step: The median of these; 0 if there are none.
    total: From the command to its end.
    loaded_memory: Resident after loading.
    peak_memory: The most that was resident.
  """

  loading: float
  graph: float
  first_step: float
  more_steps: int
  median_step: float
  total: float
  loaded_memory: float
  peak_memory: float

  @property
  def needed(self) -> float:
    """What loading, building and the steps take, without all else."""
    return (
      self.loading
      + self.graph
      + self.first_step
      + self.more_steps * self.median_step
    )

  def to_text(self) -> str:
    """The line."""
    return (
      f'Times: loading {self.loading:.2f} s, graph {self.graph:.2f} s, first '
      f'step {self.first_step:.2f} s, then {self.more_steps} more, median '
      f'{self.median_step:.4f} s, all {self.total:.2f} s; memory '
      f'{self.loaded_memory / _MIB:.1f} MiB after loading, '
      f'{self.peak_memory / _MIB:.1f} MiB at most'
    )


def from_text(text: str) -> StageTimes:
  """The times of the last such line in a log.

  Raises:
    ValueError: There is none.
  """
  found = list(_LINE.finditer(text))
  if not found:
    raise ValueError('no times in the log: the training did not get that far')
  values = {name: float(value) for name, value in found[-1].groupdict().items()}
  more_steps = int(values.pop('more_steps'))
  for name in ('loaded_memory', 'peak_memory'):
    values[name] *= _MIB
  return StageTimes(more_steps=more_steps, **values)


class StageListener:
  """A `StepListener` that takes the times; make it when all is imported.

  A step lasts until the trainer is ready for the next one.

  Args:
    loading_seconds: How long the imports took.
    clock: A function that returns seconds.
    memory: A function that returns this process's peak memory in bytes.
  """

  def __init__(
    self,
    loading_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    memory: Callable[[], int] = peak_memory_bytes,
  ):
    self._clock = clock
    self._memory = memory
    self._loading = loading_seconds
    self._loaded_memory = memory()
    self._loaded = self._built = self._started = clock()
    self._steps: list[float] = []

  def trainer_built(self, runner: Any) -> None:
    del runner
    self._built = self._clock()

  def before_step(self, step: int) -> None:
    del step
    self._started = self._clock()

  def after_step(self, step: int, metrics: Any) -> None:
    del step, metrics
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
      peak_memory=self._memory(),
    )
