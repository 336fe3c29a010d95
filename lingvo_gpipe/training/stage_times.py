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
import time
from collections.abc import Callable
from typing import Any

_MIB = 2**20
_TEXT = (
  'Times: loading {loading:.2f} s, graph {graph:.2f} s, first step '
  '{first_step:.2f} s, then {more_steps:d} more, median {median_step:.4f} s, '
  'all {total:.2f} s; memory {loaded_mib:.1f} MiB after loading, '
  '{peak_mib:.1f} MiB at most'
)
_LINE = re.compile(re.sub(r'\{(\w+):[^}]*\}', r'(?P<\1>[\\d.]+)', _TEXT))


def peak_memory_bytes() -> int:
  """The peak resident memory of this process so far."""
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclasses.dataclass(frozen=True)
class StageTimes:
  """Times in seconds, memory in bytes.

  Attributes:
    loading: Imports and the reading of flags.
    graph: Building model and graph.
    first_step: The first step, in which TensorFlow optimises the graph.
    median_step: The median of these; 0 if there are none.
    loaded_memory: Resident after loading.
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
    return _TEXT.format(
      **dataclasses.asdict(self),
      loaded_mib=self.loaded_memory / _MIB,
      peak_mib=self.peak_memory / _MIB,
    )


def from_text(text: str) -> StageTimes:
  """The times of the last such line in a log; ValueError if there is none."""
  found = list(_LINE.finditer(text))
  if not found:
    raise ValueError('no times in the log: the training did not get that far')
  values = {name: float(value) for name, value in found[-1].groupdict().items()}
  return StageTimes(
    more_steps=int(values.pop('more_steps')),
    loaded_memory=values.pop('loaded_mib') * _MIB,
    peak_memory=values.pop('peak_mib') * _MIB,
    **values,
  )


class StageListener:
  """A `StepListener` that takes the times; make it when all is imported.

  A step lasts until the trainer is ready for the next one.
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
      peak_memory=self._memory(),
    )
