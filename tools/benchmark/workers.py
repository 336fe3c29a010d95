# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes that train variants: TensorFlow's, and PyTorch's."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any

from lingvo_gpipe.training.cores import bind_all_threads
from tools.benchmark.cases import Case
from tools.benchmark.measured import Cut, WorkerRun
from tools.common import fresh, process_memory

_TORCH = pathlib.Path(__file__).with_name('torch_worker.py')
# One thread, whatever the surroundings say.
_ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


class OwnWorker:
  """A variant that TensorFlow runs."""

  version = ''

  def __init__(self, case: Case, cut: Cut):
    self._process = fresh.Process(
      'tools.benchmark.train_step.worker', case, cut.splits
    )
    self._cores = sorted(os.sched_getaffinity(0))
    self.pids = [self._process.pid]
    self.ask = self._process.ask
    self.stop = self._process.stop

  def pin(self, *, one_core: bool) -> None:
    """Binds all threads to one core, or gives them theirs back."""
    cores = self._cores[:1] if one_core else self._cores
    bind_all_threads(set(cores), self.pids[0])


class TorchWorker:
  """PyTorch's ranks; each has a core. The rest is as of `OwnWorker`."""

  def __init__(self, case: Case, cut: Cut, python: str):
    """Starts them, of an interpreter that sees none of this one's packages.

    Raises:
      ProcessError: There is no such interpreter, or it has no torch.
    """
    self._cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
      directory = stack.enter_context(tempfile.TemporaryDirectory())
      config = {
        'layers': case.num_layers,
        'dim': case.dim,
        'batch': case.batch,
        'micro_batches': case.num_micro_batches,
        'schedule': case.schedule,
        'recompute': case.recompute,
        'splits': cut.splits,
        'store': os.path.join(directory, 'store'),
      }
      self._ranks = []
      for rank in range(len(cut.splits) + 1):
        self._ranks.append(_Rank(python, {**config, 'rank': rank}))
        stack.callback(self._ranks[-1].stop)
      [version, *_] = [rank.receive() for rank in self._ranks]
      self.stop = stack.pop_all().close
    self.version = f'PyTorch {version}'
    self.pids = [rank.pid for rank in self._ranks]
    self.pin(one_core=False)

  def ask(self, method: str, *args: Any) -> Any:
    for rank in self._ranks:
      rank.send([method, *args])
    replies = [rank.receive() for rank in self._ranks]
    # The last rank knows the loss.
    return {**replies[0], 'losses': replies[-1]['losses']}

  def pin(self, *, one_core: bool) -> None:
    for i, pid in enumerate(self.pids):
      core = 0 if one_core else i % len(self._cores)
      bind_all_threads({self._cores[core]}, pid)


class _Rank:
  """A process of `torch_worker`; each line it writes is a reply in JSON."""

  def __init__(self, python: str, config: Any):
    # Open for as long as the process runs.
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    variables = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', **_ONE_THREAD}
    variables.pop('PYTHONPATH', None)
    try:
      self._process = subprocess.Popen(
        [python, str(_TORCH), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        text=True,
        env=variables,
      )
    except OSError as error:
      why = f'{python} cannot be started: {error}'
      raise fresh.ProcessError(why) from error
    assert self._process.stdin and self._process.stdout
    self._input, self._output = self._process.stdin, self._process.stdout
    self.pid = self._process.pid

  def send(self, command: Any) -> None:
    # If it has ended, receive() tells why.
    with contextlib.suppress(BrokenPipeError):
      self._input.write(json.dumps(command) + '\n')
      self._input.flush()

  def receive(self) -> Any:
    """The next line; ProcessError with its last words if it has ended."""
    line = self._output.readline()
    if line:
      return json.loads(line)
    raise fresh.ended(self._process.wait(), self._errors)

  def stop(self) -> None:
    """Ends it."""
    self._process.kill()
    self._process.wait()
    # Closing writes what the pipe did not take from `send`.
    with contextlib.suppress(BrokenPipeError):
      self._input.close()
    self._output.close()
    self._errors.close()


Worker = OwnWorker | TorchWorker


def start(case: Case, cut: Cut, torch_python: str) -> Worker:
  """Starts what trains a case."""
  if case.engine == 'torch':
    return TorchWorker(case, cut, torch_python)
  return OwnWorker(case, cut)


def device_bytes(case: Case, cut: Cut, torch_python: str) -> list[int]:
  """What each device needs; called in a process of `fresh.AliveOnly`."""
  if case.engine != 'torch':
    run: WorkerRun = fresh.call(
      'tools.benchmark.worker_run.run', case, cut.splits
    )
    return run.data
  worker = TorchWorker(case, cut, torch_python)
  try:
    idle = [process_memory.anonymous_bytes(pid) for pid in worker.pids]
    worker.ask('build')
    return [
      process_memory.peak_bytes(pid) - process_memory.file_bytes(pid) - level
      for pid, level in zip(worker.pids, idle, strict=True)
    ]
  finally:
    worker.stop()
