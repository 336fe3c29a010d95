# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the training steps of one variant, in a process of its own."""

import time
from typing import Any

from tools.benchmark import train_step


class StepWorker:
  """Builds a step, and times it; replies are dicts of `Measured`'s lists."""

  def __init__(self, *args: Any):
    """Keeps the arguments of `TrainStep`."""
    self._arguments = args

  def build(self) -> dict[str, Any]:
    """Builds the graph, and runs the first step."""
    started = time.perf_counter()
    self._step = train_step.TrainStep(*self._arguments)
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
