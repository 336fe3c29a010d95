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
import time
from collections.abc import Iterator, Sequence
from concurrent import futures

from lingvo_gpipe.training import cores
from tools.benchmark import workers
from tools.benchmark.cases import Case
from tools.benchmark.measured import UNCUT, Cut, Measured
from tools.benchmark.speed_report import CaseReport
from tools.benchmark.workers import Worker
from tools.common import command, fresh, process_memory


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much is measured; the command's flags of these names say what it is."""

  runs: int = 1
  rounds: int = 3
  steps: int = 2
  one_core_steps: int = 1
  no_memory: bool = False
  torch_python: str = ''


# What was measured of a variant that is being run, and its processes.
_Started = dict[Case, tuple[Measured, Worker]]


def measure(
  case: Case,
  variants: Sequence[Case],
  plan: Plan,
  alive_only: futures.Executor,
) -> CaseReport:
  """Measures the variants of a case; the devices' memory in `alive_only`.

  Raises:
    ProcessError: The layers cannot be cut so, or a process ended.
  """
  command.say(f'  {case.name}: cutting the layers')
  cuts: dict[int, Cut] = {
    k: fresh.call('tools.benchmark.case_cut.find', case, k) if k > 1 else UNCUT
    for k in sorted({variant.num_cells for variant in variants})
  }
  report = CaseReport(
    case, {v: Measured() for v in variants}, cuts, cores.num_usable()
  )
  for run in range(plan.runs):
    command.say(f'  {case.name}: run {run + 1} of {plan.runs}')
    with _built(report, plan.torch_python) as built:
      _take_turns(built, plan)
      for own, worker in built.values():
        own.peak_bytes.append(sum(map(process_memory.peak_bytes, worker.pids)))
  if not plan.no_memory:
    _measure_memory(report, plan.torch_python, alive_only)
  return report


@contextlib.contextmanager
def _built(report: CaseReport, torch_python: str) -> Iterator[_Started]:
  """Starts and builds what has not failed; it lives until the block ends."""
  started: _Started = {}
  with contextlib.ExitStack() as stack:
    for variant, own in report.run.items():
      with _noting_errors(variant, own):
        worker = workers.start(variant, report.cut(variant), torch_python)
        stack.callback(worker.stop)
        started[variant] = own, worker
        own.version = worker.version
    for variant, (own, worker) in started.items():
      command.say(f'  building {variant.variant}')
      idle = sum(map(process_memory.resident_bytes, worker.pids))
      with _noting_errors(variant, own):
        own.losses.clear()
        own.extend(worker.ask('build'))
        own.idle_bytes.append(idle)
    yield {variant: started[variant] for variant in report.run}


def _take_turns(built: _Started, plan: Plan) -> None:
  begun = time.monotonic()
  # The first is not counted: caches, allocators.
  for turn in range(plan.rounds + 1):
    if turn:
      left = (time.monotonic() - begun) / turn * (plan.rounds + 1 - turn)
      command.say(
        f'  round {turn} of {plan.rounds}, {left:.0f} s to go or less'
      )
    for variant, (own, worker) in built.items():
      alone = plan.one_core_steps if variant.has_pipeline else 0
      if turn:
        _turn(worker, own, plan.steps, alone)
      else:
        _turn(worker, Measured(losses=own.losses), 1, min(alone, 1))


def _turn(worker: Worker, own: Measured, steps: int, alone: int) -> None:
  """Some steps on all cores, and some on one."""
  own.extend(worker.ask('steps', steps))
  if alone:
    worker.pin(one_core=True)
    reply = worker.ask('steps', alone)
    worker.pin(one_core=False)
    own.one_core_seconds += reply['step_seconds']
    own.losses += reply['losses']


def _measure_memory(
  report: CaseReport, torch_python: str, alive_only: futures.Executor
) -> None:
  # The memory of the device of 'plain-all_cores' is that of 'plain'.
  wanted = [v for v in report.run if v.engine != 'plain-all_cores']
  command.say(f'  {report.case.name}: memory of {len(wanted)} variants')
  found = [
    alive_only.submit(
      workers.device_bytes, variant, report.cut(variant), torch_python
    )
    for variant in wanted
  ]
  for variant, future in zip(wanted, found, strict=True):
    own = report.measured[variant]
    try:
      own.device_bytes = future.result()
    except fresh.ProcessError as error:
      own.memory_error = str(error)


@contextlib.contextmanager
def _noting_errors(variant: Case, own: Measured) -> Iterator[None]:
  """Keeps why a variant cannot be run, so that the others can."""
  try:
    yield
  except fresh.ProcessError as error:
    own.error = str(error)
    command.say(f'  {variant.variant} cannot be run: {error}')
