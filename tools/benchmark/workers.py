# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes that train variants: TensorFlow's, and PyTorch's."""

import contextlib
import dataclasses
import os
from typing import Any

from lingvo_gpipe.training.one_core import bind_all_threads
from tools.benchmark import process_memory
from tools.benchmark.cases import Case
from tools.benchmark.child_process import ChildError, ChildProcess
from tools.benchmark.measured import Cut
from tools.benchmark.speed_estimate import Plan
from tools.benchmark.variants import Variant

_SERVER = 'tools.benchmark.step_server'
_TORCH = 'tools.benchmark.torch_worker'


class Worker:
  """What trains one variant.

  Attributes:
    pids: Its processes.
    version: What is not among the versions of this interpreter's packages.
  """

  def __init__(self, child: ChildProcess, cores: list[int]):
    self._child = child
    self._cores = cores
    self._number: int | None = None
    self._spread = False
    self.pids: list[int] = []
    self.version = ''

  def start_forked(self, **arguments: Any) -> None:
    """Starts a worker of a step server."""
    reply = _ask(self._child, do='start', **arguments)
    self._number, self.pids = reply['worker'], reply['pids']

  def start_torch(self) -> None:
    """Waits for PyTorch's ranks; each has a core."""
    reply = _reply(self._child.receive())
    self.pids, self.version = reply['pids'], f'PyTorch {reply["torch"]}'
    self._spread = True
    self.pin(one_core=False)

  def ask(self, **command: Any) -> Any:
    """Has a command carried out, see `step_worker`; ChildError if it fails."""
    if self._number is None:
      return _ask(self._child, **command)
    return _ask(self._child, do='work', worker=self._number, command=command)

  def pin(self, *, one_core: bool) -> None:
    """Binds all threads to one core, or gives them theirs back."""
    for i, pid in enumerate(self.pids):
      cores = set(self._cores)
      if one_core:
        cores = {self._cores[0]}
      elif self._spread:
        cores = {self._cores[i % len(self._cores)]}
      bind_all_threads(cores, pid)


class Workers:
  """Starts workers, and ends them."""

  def __init__(self, plan: Plan, stack: contextlib.ExitStack):
    """Starts nothing yet; `stack` ends what is started."""
    self._plan = plan
    self._stack = stack
    self._servers: dict[str, ChildProcess] = {}
    self._torch: list[ChildProcess] = []
    self.cores = sorted(os.sched_getaffinity(0))

  def cut(self, case: Case, num_cells: int) -> Cut:
    """Cuts a case's layers."""
    found = _ask(
      self._server(),
      do='cut',
      case=dataclasses.asdict(case),
      num_cells=num_cells,
    )
    own = {name: Cut(**other) for name, other in found.pop('own').items()}
    return Cut(**found, own=own)

  def start(self, case: Case, variant: Variant, cut: Cut) -> Worker:
    """Starts what trains a variant."""
    if variant.method.engine == 'torch':
      child = self._start_torch(case, variant, cut, self._plan.environment)
      self._torch.append(child)
      worker = Worker(child, self.cores)
      worker.start_torch()
      return worker
    worker = Worker(self._server(), self.cores)
    worker.start_forked(**_arguments(case, variant, cut))
    return worker

  def stop(self) -> None:
    """Ends what `start` started."""
    while self._torch:
      self._torch.pop().__exit__()
    if 'time' in self._servers:
      _ask(self._servers['time'], do='stop')

  def device_bytes(
    self, case: Case, variant: Variant, cut: Cut, slot: int
  ) -> list[int]:
    """Measures what each device needs, in a process of its own.

    Args:
      case: The case.
      variant: The variant.
      cut: How the layers are cut.
      slot: Calls at the same time must have different ones.
    """
    if variant.method.engine == 'torch':
      return self._torch_bytes(case, variant, cut)
    server = self._server(f'memory {slot}', process_memory.ALIVE_ONLY_ENV)
    found = _ask(server, do='memory', **_arguments(case, variant, cut))
    return list(found['peaks'])

  def _torch_bytes(self, case: Case, variant: Variant, cut: Cut) -> list[int]:
    with self._start_torch(
      case, variant, cut, process_memory.ALIVE_ONLY_ENV
    ) as child:
      worker = Worker(child, self.cores)
      worker.start_torch()
      idle = [process_memory.anonymous_bytes(pid) for pid in worker.pids]
      worker.ask(do='build')
      return [
        process_memory.peak_bytes(pid) - process_memory.file_bytes(pid) - level
        for pid, level in zip(worker.pids, idle, strict=True)
      ]

  def _start_torch(
    self, case: Case, variant: Variant, cut: Cut, environment: Any
  ) -> ChildProcess:
    arguments = {
      'layers': case.num_layers,
      'dim': case.dim,
      'batch': case.batch,
      'micro_batches': variant.num_micro_batches,
      'schedule': variant.method.schedule,
      'recompute': variant.method.recompute,
      'splits': cut.splits,
    }
    # One thread, whatever the surroundings say.
    threads = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
    return ChildProcess(
      _TORCH,
      arguments,
      {**threads, **environment},
      python=self._plan.torch_python,
    )

  def _server(
    self, name: str = 'time', environment: Any = None
  ) -> ChildProcess:
    if name not in self._servers:
      if environment is None:
        environment = self._plan.environment
      child = self._stack.enter_context(
        ChildProcess(_SERVER, None, environment)
      )
      _reply(child.receive())
      self._servers[name] = child
    return self._servers[name]


def _arguments(case: Case, variant: Variant, cut: Cut) -> dict[str, Any]:
  return {
    'case': dataclasses.asdict(case),
    'variant': dataclasses.asdict(variant),
    'splits': cut.splits,
  }


def _ask(child: ChildProcess, **command: Any) -> Any:
  return _reply(child.ask(**command))


def _reply(message: dict[str, Any]) -> Any:
  if 'error' in message:
    raise ChildError(message['error'])
  return message['reply']
