# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the training steps of one variant, when told to.

Commands are:

  {"do": "build"}             builds the graph, runs the first step
  {"do": "steps", "count": n} runs n steps, timing each
"""

import time
from typing import Any

from tools.benchmark.cases import Case
from tools.benchmark.variants import Variant


class StepWorker:
  """Carries out commands."""

  def __init__(self, case: Case, variant: Variant, splits: list[int]):
    self._arguments = case, variant, splits
    self._step = None

  def carry_out(self, command: dict[str, Any]) -> dict[str, Any]:
    """Carries out one command; returns the reply."""
    return getattr(self, f'_{command.pop("do")}')(**command)

  def _build(self) -> dict[str, Any]:
    # Importing TensorFlow and Lingvo belongs to no measurement.
    from tools.benchmark import train_step

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

  def _steps(self, count: int) -> dict[str, Any]:
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(count):
      started, cpu_started = time.perf_counter(), time.process_time()
      losses.append(self._step.run())
      seconds.append(time.perf_counter() - started)
      cpu_seconds.append(time.process_time() - cpu_started)
    return {'seconds': seconds, 'cpu_seconds': cpu_seconds, 'losses': losses}
