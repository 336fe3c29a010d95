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
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lingvo_gpipe.training import cores
from tools.benchmark import fresh, process_memory, workers
from tools.benchmark.cases import Case
from tools.benchmark.fresh import ProcessError
from tools.benchmark.measured import UNCUT, Cut, Measured
from tools.benchmark.speed_report import CaseReport
from tools.benchmark.variants import Variant
from tools.benchmark.workers import Worker

Say = Callable[[str], None]


# Importing TensorFlow and Lingvo, or starting PyTorch.
_START_SECONDS = 8.0
# A step takes as long as so many where freed blocks go back at once.
_SLOW_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much is measured.

  Attributes:
    runs: How often all processes are started anew.
    rounds: How often the variants take turns, in each run.
    steps: How many steps each turn has.
    one_core_steps: How many steps on one core each turn has; 0 for none.
    memory: Whether each device's memory is measured.
    torch_python: The interpreter that has torch.
  """

  runs: int = 1
  rounds: int = 3
  steps: int = 2
  one_core_steps: int = 1
  memory: bool = True
  torch_python: str = sys.executable


def estimated_seconds(
  wanted: Mapping[Case, Sequence[Variant]], plan: Plan
) -> float:
  """About how long it takes, by the times that cases name."""
  num_cores = cores.num_usable()
  total = _START_SECONDS * (1 + int(plan.memory))
  for case, of_case in wanted.items():
    # To cut the layers each is traced, and perhaps timed.
    total += 2 * case.build_seconds * len({v.num_cells for v in of_case} - {1})
    for variant in of_case:
      step = case.step_seconds / min(variant.num_cells, num_cores)
      # Each turn, once more before all turns, and the first step.
      timed = case.build_seconds + step * (plan.rounds * plan.steps + 2)
      if variant.has_pipeline and plan.one_core_steps:
        alone = plan.rounds * plan.one_core_steps + 1
        timed += case.step_seconds * alone
      total += plan.runs * timed
      if plan.memory and variant.has_memory:
        # As many at a time as there are cores.
        slow = case.build_seconds + _SLOW_STEPS * case.step_seconds
        total += slow / num_cores
  return total


class Benchmark:
  """Measures cases; a context manager, which ends all processes."""

  def __init__(self, plan: Plan, say: Say = lambda text: None):
    """`say` is called with what is being done."""
    self._plan = plan
    self._say = say
    self._num_cores = cores.num_usable()
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
          worker = workers.start(case, variant, cut, self._plan.torch_python)
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
    # The first is not counted: caches, allocators.
    for turn in range(plan.rounds + 1):
      if turn:
        left = (time.monotonic() - begun) / turn * (plan.rounds + 1 - turn)
        self._say(f'round {turn} of {plan.rounds}, {left:.0f} s to go or less')
      for variant, worker in started.items():
        self._turn(variant, worker, measured[variant], counted=turn > 0)

  def _turn(
    self, variant: Variant, worker: Worker, own: Measured, *, counted: bool
  ) -> None:
    """A turn of one of them, of one step if it is not counted."""
    plan = self._plan
    reply = worker.ask('steps', plan.steps if counted else 1)
    alone: dict[str, Any] = {'seconds': [], 'losses': []}
    if plan.one_core_steps and variant.has_pipeline:
      worker.pin(one_core=True)
      alone = worker.ask('steps', plan.one_core_steps if counted else 1)
      worker.pin(one_core=False)
    own.losses += reply['losses'] + alone['losses']
    if counted:
      own.step_seconds += reply['seconds']
      own.cpu_seconds += reply['cpu_seconds']
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
        self._plan.torch_python,
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
