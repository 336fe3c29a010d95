# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much of its time a core works, against one core that does all the work.

A few short stretches of the training run with the whole process bound to one
core: the same graph, session, schedule and input.

    steps   0 ... warm-up | K cores | one core | K cores | one core | ...

    efficiency = T_1 / (K * T_K)           (1: no core ever waits)
    bound      = M / (M + K - 1)           (the bubble of M micro-batches)

Both times are medians; a step after a change of cores does not count. The
bound's source is Huang et al., "GPipe", NeurIPS 2019, section 2.3.
"""

import os
import statistics
import time
from collections.abc import Callable

from lingvo_gpipe.training import cores, listeners

_WARM_UP = 5
_STRETCHES = 3
_STRETCH_STEPS = 5
# With fewer steps than this the medians would mean little.
MIN_STEPS = _WARM_UP + 2 * _STRETCHES * (_STRETCH_STEPS + 3)


class StepTimes(listeners.StepListener):
  def __init__(
    self,
    last_step: int,
    bind: Callable[[set[int]], None] = cores.bind_all_threads,
    clock: Callable[[], float] = time.perf_counter,
  ) -> None:
    self._last_step = last_step
    self._bind = bind
    self._clock = clock
    self._cores = os.sched_getaffinity(0)
    self._first_step: int | None = None
    self._on_one = False
    self._counts = False
    self._started = 0.0
    # By whether they ran on one core.
    self._seconds: dict[bool, list[float]] = {False: [], True: []}

  def before_step(self, step: int) -> None:
    if self._first_step is None:
      self._first_step = step
    index = step - self._first_step
    before, self._on_one = self._on_one, self._wants_one(index)
    self._counts = index >= _WARM_UP and before == self._on_one
    if before != self._on_one:
      try:
        self._bind({min(self._cores)} if self._on_one else self._cores)
      except OSError:  # Not allowed here, in a sandbox for instance.
        self.close()
        self._last_step = step  # Too few steps are left to try again.
    self._started = self._clock()

  def after_step(self, step: int, metrics: object) -> None:
    if self._counts:
      self._seconds[self._on_one].append(self._clock() - self._started)

  def close(self) -> None:
    if self._on_one:
      self._on_one = False
      self._bind(self._cores)

  def _wants_one(self, index: int) -> bool:
    num_steps = self._last_step - (self._first_step or 0)
    if num_steps < MIN_STEPS or index < _WARM_UP or len(self._cores) == 1:
      return False
    spacing = (num_steps - _WARM_UP) // (_STRETCHES + 1)
    stretch, position = divmod(index - _WARM_UP, spacing)
    return 1 <= stretch <= _STRETCHES and position < _STRETCH_STEPS

  def median(self, one_core: bool = False) -> float | None:
    """Seconds of a step; None if none counted."""
    seconds = self._seconds[one_core]
    return statistics.median(seconds) if seconds else None

  def line(self, num_devices: int, num_micro_batches: int | None) -> str:
    """The efficiency beside its bound, or why it was not measured."""
    if num_devices == 1:
      return 'one device: nothing to compare'
    if cores.num_usable() < num_devices:
      return (
        f'not measured: {num_devices} devices, but this process may use only '
        f'{cores.num_usable()} core(s)'
      )
    all_cores, one_core = self.median(), self.median(one_core=True)
    if all_cores is None or one_core is None:
      return f'not measured: that takes {MIN_STEPS} steps and two cores'
    text = (
      f'{one_core / (num_devices * all_cores):.1%}: a step takes '
      f'{one_core * 1e3:.1f} ms on one core'
    )
    if num_micro_batches:
      bound = num_micro_batches / (num_micro_batches + num_devices - 1)
      text += f'; the bubble allows {bound:.1%}'
    return text
