# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs training steps on worker processes, one for each device.

Each is a TensorFlow server, a fork of this process; the session's master is
another. So the peak of a server's memory above what it had before the graph
came is what its cells need: weights, gradients, activations. This process must
not have run TensorFlow before.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf

from tools.benchmark import cases, lingvo_engine, servers, train_step
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.common import fresh, process_memory

# The servers have started, and freed memory has gone back, after this.
_SETTLE_SECONDS = 0.3


def run(case: Case, splits: Sequence[int], **how: Any) -> WorkerRun:
  """`run_each` of one case."""
  [found] = run_each([case], splits, **how)
  return found


def run_each(
  cases: Sequence[Case],
  splits: Sequence[int],
  *,
  warm_up: bool = False,
  budget: float = math.inf,
) -> list[WorkerRun]:
  """Runs a step of each case, one after the other, on workers of its own.

  Args:
    cases: What to run, with the same K.
    splits: The first layer of each cell but the first.
    warm_up: Whether a step of a tiny model with a graph like the largest comes
      first, so that code and the room that the graph takes are part of the idle
      level.
    budget: See `fresh.watching`.
  """
  tf.disable_eager_execution()
  started = time.monotonic()
  found = []
  with (
    servers.worker_servers(cases[0].num_devices) as (pids, target),
    fresh.watching(pids, budget),
  ):
    if warm_up:
      largest = max(cases, key=lambda case: case.num_micro_batches)
      _step(_tiny(largest), splits, target).run()
    for case in cases:
      # The variables of the case before outlive its session.
      tf.compat.v1.Session.reset(target)
      time.sleep(_SETTLE_SECONDS)
      if warm_up:
        for pid in pids:
          process_memory.reset_peak(pid)
      found.append(_measure(case, splits, pids, target, started))
      started = time.monotonic()
  return found


def _measure(
  case: Case,
  splits: Sequence[int],
  pids: Sequence[int],
  target: str,
  started: float,
) -> WorkerRun:
  idle = list(map(process_memory.resident_bytes, pids))
  idle_data = list(map(process_memory.anonymous_bytes, pids))
  step = _step(case, splits, target)
  build_seconds = time.monotonic() - started
  seconds = _seconds(step)
  peaks = list(map(process_memory.peak_bytes, pids))
  code = map(process_memory.file_bytes, pids)
  data = [p - c - i for p, c, i in zip(peaks, code, idle_data, strict=True)]
  return WorkerRun(
    peaks, idle, data, step.num_parameters, build_seconds, seconds
  )


def take_turns(
  cases: Sequence[Case],
  splits: Sequence[Sequence[int]],
  rounds: int,
) -> tuple[float, list[list[float]]]:
  """Each round runs a step of each case, all on the same workers.

  Returns:
    The median time of a step of the first case that only updates the weights;
    and the seconds of each case's steps. Each has had a step more before.
  """
  tf.disable_eager_execution()
  with servers.worker_servers(cases[0].num_devices) as (_, target):
    update = _step(cases[0], splits[0], target, updates_only=True)
    update.run()
    update_seconds = [_seconds(update) for _ in range(rounds)]
    del update
    tf.compat.v1.Session.reset(target)
    steps = [
      _step(case, ends, target, data_is_kept=True)
      for case, ends in zip(cases, splits, strict=True)
    ]
    for step in steps:
      step.run()
    turns = [list(map(_seconds, steps)) for _ in range(rounds)]
  return statistics.median(update_seconds), list(
    map(list, zip(*turns, strict=True))
  )


def _step(
  case: Case, splits: Sequence[int], target: str, **how: bool
) -> train_step.TrainStep:
  """A step with new data each time, unless `how` says otherwise."""
  how = {'data_is_kept': False, **how}
  with lingvo_engine.known_to_channels(target):
    return train_step.TrainStep(case, splits, target, **how)


def _seconds(step: train_step.TrainStep) -> float:
  begun = time.monotonic()
  step.run()
  return time.monotonic() - begun


def _tiny(case: Case) -> Case:
  """A case with the same graph, and next to no data in it."""
  size = {'amoebanet': 32, 'transformer': 8}.get(case.model, 1)
  return dataclasses.replace(
    case,
    dim=cases.HEAD_DIM,
    hidden_dim=min(case.hidden_dim, 8),
    example_size=size,
    batch=case.num_micro_batches,
  )
