# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs training steps on worker processes, one for each device.

Each is a TensorFlow server, a fork of this process; the session's master is
another. So the peak of a server's memory above what it had before the graph
came is what its cells need: weights, gradients, activations.
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf

from tools.benchmark import cases, lingvo_engine, servers, train_step
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.benchmark.variants import Variant, variant_of
from tools.common import fresh, process_memory

# The servers have started, and freed memory has gone back, after this.
_SETTLE_SECONDS = 0.3


def run(case: Case, splits: Sequence[int], *args: Any, **how: Any) -> WorkerRun:
  """`run_each` of one case."""
  [found] = run_each([case], splits, *args, **how)
  return found


def run_each(
  cases: Sequence[Case],
  splits: Sequence[int],
  variant: Variant | None = None,
  *,
  timed_steps: int = 0,
  pinned: bool = False,
  warm_up: bool = False,
) -> list[WorkerRun]:
  """Runs training steps of cases, one after the other, on workers of its own.

  Args:
    cases: What to run, with the same K. This process must not have run
      TensorFlow.
    splits: The first layer of each cell but the first.
    variant: How; by default as the cases say.
    timed_steps: Steps after the first, of whose times the median counts; with
      0 the first step counts.
    pinned: Whether each worker is kept to a core of its own.
    warm_up: Whether a step of a tiny model with a graph like the largest comes
      first, so that code and the room that the graph takes are part of the idle
      level.
  """
  tf.disable_eager_execution()
  started = time.monotonic()
  found = []
  num_devices = (variant or cases[0]).num_devices
  with servers.worker_servers(num_devices, pinned=pinned) as (pids, target):
    if warm_up:
      largest = max(cases, key=lambda case: case.num_micro_batches)
      _step(_tiny(largest), splits, variant, target, kept=False).run()
    for case in cases:
      # The variables of the case before outlive its session.
      tf.compat.v1.Session.reset(target)
      time.sleep(_SETTLE_SECONDS)
      idle = list(map(process_memory.resident_bytes, pids))
      idle_data = list(map(process_memory.anonymous_bytes, pids))
      if warm_up:
        for pid in pids:
          process_memory.reset_peak(pid)
      fresh.announce(pids)
      step = _step(case, splits, variant, target, kept=timed_steps > 0)
      built = time.monotonic()
      seconds, loss = _time(step, 1 + timed_steps)
      peaks = list(map(process_memory.peak_bytes, pids))
      code = map(process_memory.file_bytes, pids)
      found.append(
        WorkerRun(
          peaks=peaks,
          idle=idle,
          data=[
            p - c - i for p, c, i in zip(peaks, code, idle_data, strict=True)
          ],
          parameters=step.num_parameters,
          build_seconds=built - started,
          step_seconds=statistics.median(seconds[1:] or seconds),
          loss=loss,
        )
      )
      del step
      started = time.monotonic()
  return found


def take_turns(
  cases: Sequence[Case],
  splits: Sequence[Sequence[int]],
  rounds: int,
) -> list[list[float]]:
  """The seconds of each case's steps; each round runs a step of each.

  All are on the same workers, kept to a core each. `splits` are those of each.
  """
  tf.disable_eager_execution()
  seconds: list[list[float]] = [[] for _ in cases]
  with servers.worker_servers(cases[0].num_devices, pinned=True) as (_, target):
    steps = [
      _step(case, ends, None, target, kept=True)
      for case, ends in zip(cases, splits, strict=True)
    ]
    for step in steps:
      step.run()
    for _ in range(rounds):
      for step, found in zip(steps, seconds, strict=True):
        found += _time(step, 1)[0]
  return seconds


def update_seconds(
  case: Case, splits: Sequence[int], timed_steps: int
) -> float:
  """The median time of a step that only updates the weights, after one more.

  This process must not have run TensorFlow.
  """
  tf.disable_eager_execution()
  with servers.worker_servers(case.num_devices, pinned=True) as (_, target):
    step = train_step.TrainStep(
      case, variant_of(case), splits, target, updates_only=True
    )
    seconds, _ = _time(step, 1 + timed_steps)
  return statistics.median(seconds[1:])


def _step(
  case: Case,
  splits: Sequence[int],
  variant: Variant | None,
  target: str,
  *,
  kept: bool,
) -> train_step.TrainStep:
  how = variant or variant_of(case)
  with lingvo_engine.known_to_channels(target):
    return train_step.TrainStep(case, how, splits, target, data_is_kept=kept)


def _time(step: train_step.TrainStep, count: int) -> tuple[list[float], float]:
  """The seconds of each step, and the last loss."""
  seconds = []
  for _ in range(count):
    begun = time.monotonic()
    loss = step.run()
    seconds.append(time.monotonic() - begun)
  return seconds, loss


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
