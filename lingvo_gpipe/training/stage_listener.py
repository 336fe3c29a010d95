# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Takes the times of a training run's parts, see `stage_times`."""

import statistics
import time

from lingvo_gpipe.training import run_observer, run_summaries, stage_times


class StageListener(run_observer.StepListener):
  """Make it when all is imported.

  A step lasts until the trainer is ready for the next one.

  Args:
    loading_seconds: How long that took.
    clock: A function that returns seconds.
    memory: A function that returns this process's peak memory in bytes.
  """

  def __init__(
    self,
    loading_seconds,
    clock=time.monotonic,
    memory=run_summaries.peak_memory_bytes,
  ):
    self._clock = clock
    self._memory = memory
    self._loading = loading_seconds
    self._loaded_memory = memory()
    self._loaded = self._built = clock()
    self._started = None
    self._steps = []

  def trainer_built(self, runner):
    del runner
    self._built = self._clock()

  def before_step(self, step):
    del step
    self._started = self._clock()

  def after_step(self, step, metrics):
    del step, metrics
    self._steps.append(self._clock() - self._started)

  def times(self):
    """The `StageTimes` of a run that ends now; None if no step has run."""
    if not self._steps:
      return None
    first, *more = self._steps
    return stage_times.StageTimes(
      loading=self._loading,
      graph=self._built - self._loaded,
      first_step=first,
      more_steps=len(more),
      median_step=statistics.median(more) if more else 0.0,
      total=self._clock() - self._loaded + self._loading,
      loaded_memory=self._loaded_memory,
      peak_memory=self._memory(),
    )
