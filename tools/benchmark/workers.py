# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes that train variants: TensorFlow's, and PyTorch's."""

import os
import pathlib
from typing import Any, Protocol

from lingvo_gpipe.training.one_core import bind_all_threads
from tools.benchmark import fresh, process_memory
from tools.benchmark.cases import Case
from tools.benchmark.foreign import ForeignProcess
from tools.benchmark.measured import Cut, WorkerRun
from tools.benchmark.speed_estimate import Plan
from tools.benchmark.variants import Variant

_TORCH = pathlib.Path(__file__).with_name('torch_worker.py')


class Worker(Protocol):
  """What trains one variant.

  Attributes:
    pids: Its processes.
    version: What is not among the versions of this interpreter's packages.
  """

  pids: list[int]
  version: str

  def ask(self, method: str, *args: Any) -> Any:
    """Calls a method of a `StepWorker`; ProcessError if it fails."""

  def pin(self, *, one_core: bool) -> None:
    """Binds all threads to one core, or gives them theirs back."""

  def stop(self) -> None:
    """Ends it."""


class OwnWorker:
  """A variant that TensorFlow runs."""

  version = ''

  def __init__(self, case: Case, variant: Variant, cut: Cut):
    self._process = fresh.Process(
      'tools.benchmark.step_worker.StepWorker', case, variant, cut.splits
    )
    self._cores = sorted(os.sched_getaffinity(0))
    self.pids = [self._process.pid]
    self.ask = self._process.ask
    self.stop = self._process.stop

  def pin(self, *, one_core: bool) -> None:
    cores = self._cores[:1] if one_core else self._cores
    bind_all_threads(set(cores), self.pids[0])


class TorchWorker:
  """PyTorch's ranks; each has a core."""

  def __init__(self, case: Case, variant: Variant, cut: Cut, python: str):
    arguments = {
      'layers': case.num_layers,
      'dim': case.dim,
      'batch': case.batch,
      'micro_batches': variant.num_micro_batches,
      'schedule': variant.method.schedule,
      'recompute': variant.method.recompute,
      'splits': cut.splits,
    }
    self._process = ForeignProcess(python, str(_TORCH), arguments)
    self.stop = self._process.stop
    self._cores = sorted(os.sched_getaffinity(0))
    reply = self._reply(self._process.receive())
    self.pids, self.version = reply['pids'], f'PyTorch {reply["torch"]}'
    self.pin(one_core=False)

  def ask(self, method: str, *args: Any) -> Any:
    return self._reply(self._process.ask(do=method, args=args))

  def pin(self, *, one_core: bool) -> None:
    for i, pid in enumerate(self.pids):
      core = 0 if one_core else i % len(self._cores)
      bind_all_threads({self._cores[core]}, pid)

  def _reply(self, message: dict[str, Any]) -> Any:
    if 'error' in message:
      raise fresh.ProcessError(message['error'])
    return message['reply']


def start(case: Case, variant: Variant, cut: Cut, plan: Plan) -> Worker:
  """Starts what trains a variant."""
  if variant.method.engine == 'torch':
    return TorchWorker(case, variant, cut, plan.torch_python)
  return OwnWorker(case, variant, cut)


def device_bytes(
  case: Case, variant: Variant, cut: Cut, plan: Plan
) -> list[int]:
  """What each device needs; called in a process of `fresh.AliveOnly`."""
  if variant.method.engine != 'torch':
    run: WorkerRun = fresh.call(
      'tools.benchmark.worker_run.run', case, cut.splits, variant
    )
    return run.data
  worker = TorchWorker(case, variant, cut, plan.torch_python)
  try:
    idle = [process_memory.anonymous_bytes(pid) for pid in worker.pids]
    worker.ask('build')
    return [
      process_memory.peak_bytes(pid) - process_memory.file_bytes(pid) - level
      for pid, level in zip(worker.pids, idle, strict=True)
    ]
  finally:
    worker.stop()
