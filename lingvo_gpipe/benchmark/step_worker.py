# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process that runs the training steps of one variant, when told to.

Its parent writes commands to its standard input and reads replies from its
standard output, one JSON object a line:

  {"do": "build"}             builds the graph, runs the first step
  {"do": "steps", "count": n} runs n steps, timing each
  {"do": "memory"}            reads its memory
"""

import dataclasses
import json
import os
import sys
import time
from typing import Any

from lingvo_gpipe.benchmark import process_memory
from lingvo_gpipe.benchmark.cases import Case, Variant
from lingvo_gpipe.training import one_core


class StepWorker:
  """Carries out commands."""

  def __init__(self, case: Case, variant: Variant):
    """Imports TensorFlow and Lingvo, which belongs to no measurement."""
    from lingvo_gpipe.benchmark import train_step

    self._case = case
    self._variant = variant
    self._make = train_step.TrainStep
    self._core = one_core.OneCore() if variant.one_core else None
    self._step = None
    self._idle = process_memory.resident_bytes()

  def carry_out(self, command: dict[str, Any]) -> dict[str, Any]:
    """Carries out one command; returns the reply."""
    if self._core is not None:
      # Threads that have been started since are bound as well.
      self._core.pin()
    return getattr(self, f'_{command.pop("do")}')(**command)

  def _build(self) -> dict[str, Any]:
    started = time.perf_counter()
    self._step = self._make(self._case, self._variant)
    loss = self._step.run()
    seconds = time.perf_counter() - started
    return {'seconds': seconds, 'loss': loss, 'ops': self._step.num_ops}

  def _steps(self, count: int) -> dict[str, Any]:
    seconds, cpu_seconds = [], []
    for _ in range(count):
      started, cpu_started = time.perf_counter(), time.process_time()
      loss = self._step.run()
      seconds.append(time.perf_counter() - started)
      cpu_seconds.append(time.process_time() - cpu_started)
    return {'seconds': seconds, 'cpu_seconds': cpu_seconds, 'loss': loss}

  def _memory(self) -> dict[str, Any]:
    return {'idle': self._idle, 'peak': process_memory.peak_bytes()}


def serve(case: Case, variant: Variant) -> None:
  """Carries out commands until standard input ends."""
  replies = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)

  def reply(value: dict[str, Any]) -> None:
    replies.write(json.dumps(value) + '\n')
    replies.flush()

  from absl import flags

  flags.FLAGS(sys.argv[:1])
  worker = StepWorker(case, variant)
  reply({'ready': dataclasses.asdict(variant)})
  for line in sys.stdin:
    reply(worker.carry_out(json.loads(line)))


if __name__ == '__main__':
  given = json.loads(sys.argv[1])
  serve(Case(**given['case']), Variant(**given['variant']))
