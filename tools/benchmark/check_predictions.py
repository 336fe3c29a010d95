# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains configurations for some steps, beside what the planner predicts.

```
  layers, each timed alone on a core
  the weights' update                 -- planner -->  predicted step, peaks
  transfers between processes
  K worker processes, a core each     -- training --> measured step, peaks
```

Layers are timed on as many cores at once as workers will be busy, for each case
anew and right before its steps: machines are not always equally fast. Memory
and time are measured in different processes: what shows the memory that is
really alive slows steps down (see `process_memory`).
"""

import concurrent.futures
import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe import text_table
from lingvo_gpipe.cost_model import LayerCost
from lingvo_gpipe.planner.forecast import Setting, Speeds, forecast
from lingvo_gpipe.planner.workload import Workload
from lingvo_gpipe.training import one_core
from tools.benchmark import process_memory
from tools.benchmark.child_process import ChildProcess
from tools.benchmark.training_case import TrainingCase

_SERVER = 'tools.benchmark.training_server'
# Nothing is to be stopped for its memory.
_NO_BUDGET = 2**50


class CheckError(RuntimeError):
  """A case could not be costed or trained."""


@dataclasses.dataclass(frozen=True)
class Checked:
  """A case, predicted and measured.

  Attributes:
    case: The case.
    predicted_bytes: What each worker should need at its peak.
    measured_bytes: What it needed, above what it has after a step of a tiny
      model with the same graph.
    predicted_seconds: What a step should take.
    measured_seconds: The median of steps.
  """

  case: TrainingCase
  predicted_bytes: tuple[int, ...]
  measured_bytes: tuple[int, ...]
  predicted_seconds: float
  measured_seconds: float

  @property
  def memory_error(self) -> float:
    """Of the fullest worker: by which share the prediction is too high."""
    return max(self.predicted_bytes) / max(self.measured_bytes) - 1

  @property
  def time_error(self) -> float:
    """By which share the predicted step is too long."""
    return self.predicted_seconds / self.measured_seconds - 1


def default_cases(scale: int = 1) -> list[TrainingCase]:
  """Six cases: both families, one and two workers, all policies.

  Args:
    scale: Divides the sizes, for a quick look.
  """
  image = TrainingCase('amoebanet', 3, 96 // scale, 128 // scale, 4)
  text = TrainingCase('transformer', 6, 384 // scale, 128 // scale, 4)

  def with_micro_batches(
    base: TrainingCase, k: int, m: int, schedule: str, recompute: str
  ) -> TrainingCase:
    return dataclasses.replace(
      base,
      num_workers=k,
      num_micro_batches=m,
      batch=base.batch * m,
      schedule=schedule,
      recompute=recompute,
    )

  return [
    with_micro_batches(image, 2, 4, '1f1b', 'never'),
    with_micro_batches(image, 2, 6, 'gpipe', 'always'),
    with_micro_batches(text, 1, 1, 'gpipe', 'never'),
    with_micro_batches(text, 1, 4, '1f1b', 'always'),
    with_micro_batches(text, 2, 6, '1f1b', 'except_last'),
    with_micro_batches(text, 2, 8, 'gpipe', 'never'),
  ]


@dataclasses.dataclass
class Check:
  """Checks cases.

  Attributes:
    timed_steps: Steps of which the median counts, after one that does not.
    timeout: Seconds that one measurement may take.
    report: Called with a line for each measurement.
  """

  timed_steps: int = 10
  timeout: float = 300.0
  report: Callable[[str], None] = lambda line: None

  def run(self, cases: Sequence[TrainingCase]) -> list[Checked]:
    """Predicts and measures cases.

    Raises:
      CheckError: One could not be costed or trained.
      ChildError: A process ended.
    """
    with contextlib.ExitStack() as stack:
      memory = stack.enter_context(
        ChildProcess(_SERVER, {}, process_memory.ALIVE_ONLY_ENV)
      )
      timing = [
        stack.enter_context(ChildProcess(_SERVER, {}))
        for _ in range(_num_busy_cores(cases))
      ]
      return [self._check(case, timing, memory) for case in cases]

  def _workload(
    self, case: TrainingCase, servers: Sequence[ChildProcess]
  ) -> Workload:
    """A case's layers, timed on as many cores at once as it has workers."""

    def costs(core: int) -> dict[str, Any]:
      return _ask(
        servers[core], 'measured_costs', case, core=core, timeout=self.timeout
      )

    cores = range(min(case.num_workers, len(servers)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
      replies = list(pool.map(costs, cores))
    layers = [
      LayerCost(
        **{
          **same[0],
          'forward': statistics.mean(one['forward'] for one in same),
          'backward': statistics.mean(one['backward'] for one in same),
        }
      )
      for same in zip(*(reply['layers'] for reply in replies), strict=True)
    ]
    self.report(
      f'{case.model}: {len(layers)} layers timed, '
      f'{sum(layer.forward + layer.backward for layer in layers):.3f} s a '
      'micro-batch.'
    )
    return Workload(
      name=case.model,
      layers=tuple(layers),
      input_bytes=replies[0]['input_bytes'],
      basis='measured',
      num_micro_batches=case.num_micro_batches,
      micro_batch_size=case.micro_batch_size,
    )

  def _speeds(self, case: TrainingCase, server: ChildProcess) -> Speeds:
    """How long transfers between a case's workers take."""
    link = _ask(server, 'link_speed', case, timeout=self.timeout)
    return Speeds(1.0, link['bytes_a_second'], link['latency'])

  def _update(
    self, case: TrainingCase, splits: Sequence[int], server: ChildProcess
  ) -> float:
    """What a step takes besides its tasks."""
    reply: float = _ask(
      server,
      'update_seconds',
      case,
      splits=list(splits),
      timed_steps=self.timed_steps,
      timeout=self.timeout,
    )
    return reply

  def _check(
    self,
    case: TrainingCase,
    timing: Sequence[ChildProcess],
    memory: ChildProcess,
  ) -> Checked:
    setting = Setting(
      case.num_workers, case.num_micro_batches, case.schedule, case.recompute
    )
    work, speeds = self._workload(case, timing), self._speeds(case, timing[0])
    splits = forecast(work, setting, speeds).partition.splits
    speeds = dataclasses.replace(
      speeds, step_overhead=self._update(case, splits, timing[0])
    )
    predicted = forecast(work, setting, speeds, splits=splits)
    command = {
      'splits': list(splits),
      'budget': _NO_BUDGET,
      'timeout': self.timeout,
      'pinned': True,
    }
    timed = _ask(
      timing[0], 'measure', case, timed_steps=self.timed_steps, **command
    )
    sized = _ask(memory, 'measure', case, warm_up=True, **command)
    checked = Checked(
      case=case,
      predicted_bytes=tuple(device.total for device in predicted.devices),
      measured_bytes=tuple(
        peak - idle
        for peak, idle in zip(sized['peaks'], sized['idle'], strict=True)
      ),
      predicted_seconds=predicted.step_time,
      measured_seconds=timed['step_seconds'],
    )
    self.report(
      f'{describe(case)}: memory {checked.memory_error:+.0%}, time '
      f'{checked.time_error:+.0%}.'
    )
    return checked


def _num_busy_cores(cases: Sequence[TrainingCase]) -> int:
  """How many cores the workers of the largest case can keep busy."""
  most = max(case.num_workers for case in cases)
  return min(most, one_core.num_usable_cores())


def _ask(
  server: ChildProcess, do: str, case: TrainingCase, **arguments: Any
) -> Any:
  reply = server.ask(do=do, case=dataclasses.asdict(case), **arguments)
  if 'result' not in reply:
    raise CheckError(f'{describe(case)}: {reply.get("error", reply)}')
  return reply['result']


def describe(case: TrainingCase) -> str:
  """A case in a few words."""
  return (
    f'{case.model}, K = {case.num_workers}, M = {case.num_micro_batches}, '
    f'{case.schedule}, {case.recompute}'
  )


def as_text(found: Sequence[Checked]) -> str:
  """A table with a case a row; also Markdown."""
  header = ['model', 'K', 'M', 'schedule', 'recompute']
  header += ['peaks predicted, MiB', 'measured', 'error of the fullest']
  header += ['step predicted, s', 'measured', 'error']
  return text_table.table(header, [_row(one) for one in found])


def _row(one: Checked) -> list[str]:
  case = one.case
  return [
    case.model,
    str(case.num_workers),
    str(case.num_micro_batches),
    case.schedule,
    case.recompute,
    ' '.join(map(text_table.megabytes, one.predicted_bytes)),
    ' '.join(map(text_table.megabytes, one.measured_bytes)),
    text_table.signed_percent(one.memory_error),
    f'{one.predicted_seconds:.3f}',
    f'{one.measured_seconds:.3f}',
    text_table.signed_percent(one.time_error),
  ]


def as_json(found: Sequence[Checked]) -> list[dict[str, Any]]:
  """All figures, for json.dump."""
  return [
    {
      **dataclasses.asdict(one),
      'memory_error': one.memory_error,
      'time_error': one.time_error,
    }
    for one in found
  ]
