# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a case's variants side by side, and keeps what was measured.

Each variant has a process of its own (PyTorch's has one a cell), and all of
them live at once. They take turns, a few steps each on all cores and then on
one core, so that whatever slows the machine for a while slows all of them:

```
  round 0  | lingvo: 3 steps, 1 on one core | ours: 3 steps, 1 on one core | ..
  round 1  | lingvo: ...
```

Only one of them has anything to do at a time.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tools.benchmark import fresh, process_memory, workers
from tools.benchmark.cases import Case
from tools.benchmark.fresh import ProcessError
from tools.benchmark.measured import UNCUT, Cut, Measured
from tools.benchmark.speed_estimate import Plan
from tools.benchmark.speed_report import CaseReport
from tools.benchmark.variants import Variant
from tools.benchmark.workers import Worker

Say = Callable[[str], None]


class Benchmark:
  """Measures cases; a context manager, which ends all processes."""

  def __init__(self, plan: Plan, say: Say = lambda text: None):
    """Prepares.

    Args:
      plan: How much to measure.
      say: Called with what is being done.
    """
    self._plan = plan
    self._say = say
    self._num_cores = len(os.sched_getaffinity(0))
    # As many at a time: nothing is timed.
    self._memory_pool = fresh.AliveOnly(self._num_cores)

  def __enter__(self) -> 'Benchmark':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._memory_pool.shutdown()

  def measure(self, case: Case, variants: Sequence[Variant]) -> CaseReport:
    """Measures the variants of a case.

    Raises:
      ProcessError: The layers cannot be cut so, or a process ended.
    """
    self._say(f'{case.name}: cutting the layers')
    cuts = {
      k: fresh.call('tools.benchmark.case_cut.find', case, k)
      if k > 1
      else UNCUT
      for k in sorted({variant.num_cells for variant in variants})
    }
    measured = {variant: Measured() for variant in variants}
    for run in range(self._plan.runs):
      self._say(f'{case.name}: run {run + 1} of {self._plan.runs}')
      with self._started(case, measured, cuts) as started:
        self._build(started, measured)
        self._take_turns(started, measured)
        for variant, worker in started.items():
          measured[variant].peak_bytes.append(
            sum(map(process_memory.peak_bytes, worker.pids))
          )
    if self._plan.memory:
      self._measure_memory(case, measured, cuts)
    return CaseReport(case, measured, cuts, self._num_cores)

  @contextlib.contextmanager
  def _started(
    self,
    case: Case,
    measured: Mapping[Variant, Measured],
    cuts: Mapping[int, Cut],
  ) -> Iterator[dict[Variant, Worker]]:
    started: dict[Variant, Worker] = {}
    with contextlib.ExitStack() as stack:
      for variant, own in measured.items():
        if own.error:
          continue
        with _noting_errors(own):
          cut = cuts[variant.num_cells].of(variant.method.name)
          worker = workers.start(case, variant, cut, self._plan)
          stack.callback(worker.stop)
          started[variant] = worker
          own.version = worker.version
          own.idle_bytes.append(
            sum(map(process_memory.resident_bytes, worker.pids))
          )
      yield started

  def _build(
    self, started: dict[Variant, Worker], measured: dict[Variant, Measured]
  ) -> None:
    for variant, worker in list(started.items()):
      own = measured[variant]
      self._say(f'building {variant.name}')
      with _noting_errors(own):
        reply = worker.ask('build')
        own.graph_seconds.append(reply['graph_seconds'])
        own.first_step_seconds.append(reply['first_step_seconds'])
        own.ops = reply['ops']
        own.losses = reply['losses']
      if own.error:
        self._say(f'{variant.name} cannot be run: {own.error}')
        own.idle_bytes.clear()
        del started[variant]

  def _take_turns(
    self, started: dict[Variant, Worker], measured: dict[Variant, Measured]
  ) -> None:
    plan = self._plan
    begun = time.monotonic()
    # Not counted: caches, allocators.
    self._turns(started, measured, counted=False)
    for turn in range(plan.rounds):
      left = (time.monotonic() - begun) / (turn + 1) * (plan.rounds - turn)
      self._say(
        f'round {turn + 1} of {plan.rounds}, {left:.0f} s to go or less'
      )
      self._turns(started, measured, counted=True)

  def _turns(
    self,
    started: dict[Variant, Worker],
    measured: dict[Variant, Measured],
    *,
    counted: bool,
  ) -> None:
    """One turn of each, of one step if it is not counted."""
    plan = self._plan
    for variant, worker in started.items():
      reply = worker.ask('steps', plan.steps if counted else 1)
      alone = None
      if plan.one_core_steps and variant.has_pipeline:
        worker.pin(one_core=True)
        alone = worker.ask('steps', plan.one_core_steps if counted else 1)
        worker.pin(one_core=False)
      own = measured[variant]
      own.losses += reply['losses'] + (alone['losses'] if alone else [])
      if not counted:
        continue
      own.step_seconds += reply['seconds']
      own.cpu_seconds += reply['cpu_seconds']
      if alone:
        own.one_core_seconds += alone['seconds']

  def _measure_memory(
    self,
    case: Case,
    measured: dict[Variant, Measured],
    cuts: Mapping[int, Cut],
  ) -> None:
    """Measures what each device needs, of several variants at a time."""
    wanted = [
      v for v, own in measured.items() if v.has_memory and not own.error
    ]
    self._say(f'{case.name}: memory of {len(wanted)} variants')
    futures = [
      self._memory_pool.submit(
        workers.device_bytes,
        case,
        variant,
        cuts[variant.num_cells].of(variant.method.name),
        self._plan,
      )
      for variant in wanted
    ]
    for variant, future in zip(wanted, futures, strict=True):
      try:
        measured[variant].device_bytes = future.result()
      except ProcessError as error:
        measured[variant].memory_error = str(error)


@contextlib.contextmanager
def _noting_errors(own: Measured) -> Iterator[None]:
  """Keeps why a variant cannot be run, so that the others can."""
  try:
    yield
  except ProcessError as error:
    own.error = str(error)
