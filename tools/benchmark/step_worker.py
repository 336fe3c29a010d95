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

  def __init__(self, make: Callable[[], Any]):
    """`make` returns a step, with a method `run` and a number `num_ops`."""
    self._make = make

  def build(self) -> dict[str, Any]:
    """Builds the graph, and runs the first step."""
    started = time.perf_counter()
    self._step = self._make()
    built = time.perf_counter()
    loss = self._step.run()
    return {
      'graph_seconds': built - started,
      'first_step_seconds': time.perf_counter() - built,
      'losses': [loss],
      'ops': self._step.num_ops,
    }

  def steps(self, count: int) -> dict[str, Any]:
    """Runs so many steps, and times each."""
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(count):
      started, cpu_started = time.perf_counter(), time.process_time()
      losses.append(self._step.run())
      seconds.append(time.perf_counter() - started)
      cpu_seconds.append(time.process_time() - cpu_started)
    return {'seconds': seconds, 'cpu_seconds': cpu_seconds, 'losses': losses}
