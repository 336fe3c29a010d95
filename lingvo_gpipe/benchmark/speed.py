# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a case's variants side by side, and keeps what was measured.

Each variant has a process of its own, and all of them live at once. They take
turns, a few steps each, so that whatever slows the machine for a while slows
all of them:

```
  round 0  | lingvo: 3 steps | ours: 3 steps | ours, 1f1b: 3 steps | ...
  round 1  | lingvo: 3 steps | ours: 3 steps | ...
```

Only one process has anything to do at a time.
"""

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from lingvo_gpipe.benchmark.cases import Case, Variant
from lingvo_gpipe.benchmark.child_process import ChildProcess


@dataclasses.dataclass
class Measured:
  """What was measured of one variant; lists have an entry a run or a step.

  Attributes:
    build_seconds: Building the graph, initialising, and the first step.
    step_seconds: Steps after the first.
    cpu_seconds: The same steps' time on all cores together, from the process's
      own count: it tells work from waiting, and other programs matter less.
    idle_bytes: Resident memory before the graph was built.
    peak_bytes: The most resident memory after all steps.
    ops: How many ops the graph has.
    losses: The loss after the first step and after the last.
  """

  build_seconds: list[float] = dataclasses.field(default_factory=list)
  step_seconds: list[float] = dataclasses.field(default_factory=list)
  cpu_seconds: list[float] = dataclasses.field(default_factory=list)
  idle_bytes: list[int] = dataclasses.field(default_factory=list)
  peak_bytes: list[int] = dataclasses.field(default_factory=list)
  ops: int = 0
  losses: list[float] = dataclasses.field(default_factory=list)

  @property
  def build(self) -> float:
    return statistics.median(self.build_seconds)

  @property
  def step(self) -> float:
    return statistics.median(self.step_seconds)

  @property
  def cpu(self) -> float:
    return statistics.median(self.cpu_seconds)

  @property
  def peak(self) -> float:
    return statistics.median(self.peak_bytes)

  @property
  def above_idle(self) -> float:
    """The peak above the level before building."""
    return statistics.median(
      peak - idle
      for peak, idle in zip(self.peak_bytes, self.idle_bytes, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much is measured.

  Attributes:
    runs: How often all processes are started anew.
    rounds: How often the variants take turns, in each run.
    steps: How many steps each turn has.
    environment: What to add to the processes' environment.
  """

  runs: int = 1
  rounds: int = 5
  steps: int = 3
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    for name in ('runs', 'rounds', 'steps'):
      value = getattr(self, name)
      if value < 1:
        raise ValueError(f'{name} is {value}; it must be 1 or more.')


def measure(
  case: Case,
  variants: Sequence[Variant],
  plan: Plan,
  say: Callable[[str], None] = lambda text: None,
) -> dict[Variant, Measured]:
  """Measures the variants of a case.

  Args:
    case: The case.
    variants: What to compare.
    plan: How much to measure.
    say: Called with what is being done.

  Raises:
    ChildError: A process failed; the message has its errors.
  """
  measured = {variant: Measured() for variant in variants}
  for run in range(plan.runs):
    with contextlib.ExitStack() as stack:
      say(f'run {run}: starting {len(variants)} processes')
      workers = {
        variant: stack.enter_context(_worker(case, variant, plan))
        for variant in variants
      }
      for worker in workers.values():
        worker.receive()
      _build(workers, measured, say)
      _take_turns(workers, measured, plan, say)
  return measured


def _worker(case: Case, variant: Variant, plan: Plan) -> ChildProcess:
  return ChildProcess(
    'lingvo_gpipe.benchmark.step_worker',
    {
      'case': dataclasses.asdict(case),
      'variant': dataclasses.asdict(variant),
    },
    plan.environment,
  )


def _build(
  workers: dict[Variant, ChildProcess],
  measured: dict[Variant, Measured],
  say: Callable[[str], None],
) -> None:
  for variant, worker in workers.items():
    say(f'building {variant.name}')
    reply = worker.ask(do='build')
    measured[variant].build_seconds.append(reply['seconds'])
    measured[variant].ops = reply['ops']
    measured[variant].losses = [reply['loss']]


def _take_turns(
  workers: dict[Variant, ChildProcess],
  measured: dict[Variant, Measured],
  plan: Plan,
  say: Callable[[str], None],
) -> None:
  for worker in workers.values():
    worker.ask(do='steps', count=1)  # Not counted: caches, allocators.
  for turn in range(plan.rounds):
    say(f'round {turn + 1} of {plan.rounds}')
    for variant, worker in workers.items():
      reply = worker.ask(do='steps', count=plan.steps)
      measured[variant].step_seconds += reply['seconds']
      measured[variant].cpu_seconds += reply['cpu_seconds']
      measured[variant].losses[1:] = [reply['loss']]
  for variant, worker in workers.items():
    memory = worker.ask(do='memory')
    measured[variant].idle_bytes.append(memory['idle'])
    measured[variant].peak_bytes.append(memory['peak'])
