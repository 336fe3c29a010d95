# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a training step, in a process of its own.

The standard library alone: PyTorch's interpreter need not have more.
"""

import time
from collections.abc import Callable
from typing import Any


class StepWorker:
  """Builds a step, and times it; replies are dicts of `Measured`'s lists."""

  def __init__(
    self,
    make: Callable[[], Any],
    clock: Callable[[], float] = time.perf_counter,
  ):
    """`make` returns a step, with a method `run` that returns the loss."""
    self._make = make
    self._clock = clock

  def build(self) -> dict[str, list[float]]:
    """Builds the graph, and runs the first step."""
    started = self._clock()
    self._step = self._make()
    built = self._clock() - started
    first, losses = self.steps(1).values()
    return {
      'graph_seconds': [built],
      'first_step_seconds': first,
      'losses': losses,
    }

  def steps(self, count: int) -> dict[str, list[float]]:
    """Runs so many steps, and times each."""
    seconds, losses = [], []
    for _ in range(count):
      started = self._clock()
      losses.append(self._step.run())
      seconds.append(self._clock() - started)
    return {'step_seconds': seconds, 'losses': losses}
