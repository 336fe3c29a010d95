# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times training steps, on all cores and on one.

How efficient a pipeline is can only be said against the same work done
without one. A few short stretches of the training therefore run with the whole
process bound to one core: the same graph, session, schedule and input, so one
core does all that otherwise K cores do between them.

    steps   0 ...... | warm-up, not counted
                     | all cores: T_K
            n/4      | one core for a few steps: T_1
                     | all cores
            n/2      | one core
                     | ...

    efficiency = T_1 / (K * T_K)           (1: no core ever waits)
    bound      = M / (M + K - 1)           (the bubble of M micro-batches)

Both times are medians. A step lasts until the trainer is ready for the next
one: input, forward, backward, update and the writing of metrics. The steps at
the edges of a stretch are not counted, since caches and clocks follow slowly.
The times mean something only if nobody else wants the cores, so the share of
its core that this process had is measured as well.
"""

import dataclasses
import statistics
import time

from lingvo_gpipe.training import cores, listeners

WARM_UP_STEPS = 5
_NUM_STRETCHES = 3
_STRETCH_STEPS = 5
# With fewer steps than this the medians would mean little.
MIN_STEPS = WARM_UP_STEPS + 2 * _NUM_STRETCHES * (_STRETCH_STEPS + 3)


def bound(num_micro_batches, num_cells):
  """M / (M + K - 1): what the bubble leaves of K devices with equal cells.

  Source: Huang et al., "GPipe", NeurIPS 2019, section 2.3, which gives the
  bubble as O((K - 1) / (M + K - 1)).
  """
  return num_micro_batches / (num_micro_batches + num_cells - 1)


def one_core_stretches(num_steps):
  """The ranges of steps, counted from 0, that run on one core.

  None if there are too few steps to spare some.
  """
  if num_steps < MIN_STEPS:
    return []
  spacing = (num_steps - WARM_UP_STEPS) // (_NUM_STRETCHES + 1)
  firsts = [WARM_UP_STEPS + (i + 1) * spacing for i in range(_NUM_STRETCHES)]
  return [range(first, first + _STRETCH_STEPS) for first in firsts]


@dataclasses.dataclass(frozen=True)
class StepTimeSummary:
  """Medians of the steps that count.

  Attributes:
    seconds: Of a step on all cores; None if no step counted.
    one_core_seconds: Of a step on one core; None if it wasn't measured.
    one_core_share: The share of the core that this process had meanwhile; well
      below 1 if other programs ran on it.
  """

  seconds: float | None
  num_steps: int
  one_core_seconds: float | None
  num_one_core_steps: int
  one_core_share: float | None = None

  def efficiency(self, num_devices):
    """Share of its time in which a core works, None if not measured."""
    if not self.seconds or not self.one_core_seconds:
      return None
    return self.one_core_seconds / (num_devices * self.seconds)


def _median(values):
  return statistics.median(values) if values else None


class StepTimes(listeners.StepListener):
  """Records how long each step takes, and runs some on one core."""

  def __init__(
    self,
    last_step,
    core=None,
    clock=time.perf_counter,
    cpu_clock=time.process_time,
  ):
    self._last_step = last_step
    self._clock = clock
    self._cpu_clock = cpu_clock
    self._core = core or cores.OneCore()
    self._stretches = None  # Known when the first step is.
    self._started = None
    self._seconds = []  # Of every step, in order.
    self._cpu_seconds = []

  @property
  def on_one_core(self):
    """Whether the process is bound to one core just now."""
    return self._core.pinned

  def before_step(self, step):
    if self._stretches is None:
      left = self._last_step - step
      self._stretches = one_core_stretches(left) if self._core.available else []
    index = len(self._seconds)
    if any(index in stretch for stretch in self._stretches):
      self._pin()
    else:
      self._core.release()
    self._started = (self._clock(), self._cpu_clock())

  def after_step(self, step, metrics):
    started, cpu_started = self._started
    self._seconds.append(self._clock() - started)
    self._cpu_seconds.append(self._cpu_clock() - cpu_started)

  def close(self):
    """Ends the measurement, wherever it stands."""
    self._core.release()

  def _pin(self):
    if self._core.pinned:
      return
    try:
      self._core.pin()
    except OSError:
      # Not allowed here, in a sandbox for instance: train on without it.
      self._core.release()
      self._stretches = []

  def summary(self):
    """Returns a `StepTimeSummary` of the steps so far."""
    inside, edges = set(), set()
    for stretch in self._stretches or []:
      edges |= {stretch.start, stretch.stop}
      inside |= set(stretch) - {stretch.start}
    counted = set(range(WARM_UP_STEPS, len(self._seconds))) - edges
    all_cores = [self._seconds[i] for i in counted - inside]
    one = [self._seconds[i] for i in counted & inside]
    shares = [self._cpu_seconds[i] / self._seconds[i] for i in counted & inside]
    return StepTimeSummary(
      seconds=_median(all_cores),
      num_steps=len(all_cores),
      one_core_seconds=_median(one),
      num_one_core_steps=len(one),
      one_core_share=_median(shares),
    )
