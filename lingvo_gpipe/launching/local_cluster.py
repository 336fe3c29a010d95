# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Workers, controller, trainer and evalers on one machine, as one run.

When a process of the training dies or hangs, all of them are ended and started
again, and the trainer goes on from the last checkpoint. So nothing is left of
a step that was under way: what the surviving workers hold is thrown away.

    worker 0..N-1 --+
    controller -----+-- one dies --> all end, all start again
    trainer --------+-- done, or a flag is wrong --> all end
    evaler ...      ---- one dies --> it alone starts again
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterable

from lingvo_gpipe.launching import child

_POLL_SECONDS = 0.1
# The exit status of a process whose flags or model are wrong, see `command`.
_REFUSED = 2
# That of a trainer that lost a worker, see `worker_watch`.
_WORKER_LOST = 3
# How long the trainer has to say itself what another process ended of.
_REFUSAL_SECONDS = 2.0
# How long a process may take to end by itself.
_GRACE_SECONDS = 15.0

# Of the environment: the workers' process ids, for a trainer that traces.
WORKER_PIDS = 'LINGVO_GPIPE_WORKER_PIDS'

Main = Callable[[list[str]], int]


@dataclasses.dataclass(frozen=True)
class Settings:
  """What to start.

  Attributes:
    controller: Whether to start Lingvo's controller, which writes summaries.
    evaluation_jobs: Jobs beside the training, such as 'evaler_Test'.
    evaluation_devices: Number of CPU devices of each of these.
    max_restarts: How often the training may be started again.
    hang_seconds: Silence after which a process counts as hanging.
  """

  num_workers: int
  controller: bool
  evaluation_jobs: tuple[str, ...]
  evaluation_devices: int
  logdir: str
  trainer_flags: tuple[str, ...]
  max_restarts: int
  hang_seconds: float


def free_ports(count: int) -> list[int]:
  """Ports of the loopback interface that are not in use now."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for s in sockets:
      s.bind(('127.0.0.1', 0))
    return [s.getsockname()[1] for s in sockets]


def _running(processes: Iterable[child.Child]) -> bool:
  """Looks after all of `processes`; returns whether any runs."""
  return sum(process.poll() for process in processes) > 0


class LocalCluster:
  """Runs the processes, see the module.

  Args:
    main: What a process does: takes a command line, returns its exit status.
    say: Is told what happens, a line.
  """

  def __init__(
    self, settings: Settings, main: Main, say: Callable[[str], None]
  ) -> None:
    self._settings = settings
    self._main = main
    self._say = say
    self._training: dict[str, child.Child] = {}
    self._evaluation: dict[str, child.Child] = {}
    self._peaks: dict[str, float] = {}

  def run(self) -> int:
    """Runs until the training is done; returns the exit status."""
    restarts = 0
    try:
      self._start_training()
      for job in self._settings.evaluation_jobs:
        self._start_evaluation(job)
      while True:
        time.sleep(_POLL_SECONDS)
        self._follow_evaluation()
        status, problem = self._follow_training()
        if status is not None:
          if status == 0:
            self._finish()
          return status
        if problem:
          restarts += 1
          if restarts > self._settings.max_restarts:
            self._say(f'{problem}; given up after {restarts - 1} restart(s).')
            return 1
          # The workers last: the trainer need not say that they are gone.
          self._end(reversed(self._training.values()))
          self._say(
            f'{problem}; all start again from the last checkpoint '
            f'(restart {restarts} of {self._settings.max_restarts}).'
          )
          self._start_training()
    except KeyboardInterrupt:
      self._say('Interrupted: ending all processes ...')
      self._interrupt_trainer()
      return 130
    finally:
      self._end(
        [*self._evaluation.values(), *reversed(self._training.values())]
      )
      self._report_memory()

  # -- Starting.

  def _start(self, name: str, argv: list[str], **kwargs: bool) -> child.Child:
    settings = self._settings
    log = f'{settings.logdir}/log_{name.replace(" ", "_")}.txt'
    command = [name, *settings.trainer_flags, f'--logdir={settings.logdir}']
    return child.Child(
      name, lambda: self._main([*command, *argv]), log, **kwargs
    )

  def _start_training(self) -> None:
    settings = self._settings
    jobs = {'worker': settings.num_workers, 'trainer_client': 1}
    if settings.controller:
      jobs['controller'] = 1
    # New ports each time: the old ones may still be taken.
    ports = iter(free_ports(sum(jobs.values())))
    addresses = {
      job: ','.join(f'127.0.0.1:{next(ports)}' for _ in range(count))
      for job, count in jobs.items()
    }
    common = [
      '--cluster_spec='
      + '@'.join(f'{job}={hosts}' for job, hosts in addresses.items()),
      '--mode=sync',
      '--checkpoint_in_trainer_cpu',
    ]
    # Workers first, since the others wait for them.
    self._training = {}
    for job, count in jobs.items():
      for task in range(count):
        name = {'trainer_client': 'trainer'}.get(job, job)
        if job == 'worker':
          name = f'worker {task}'
        self._training[name] = self._start(
          name,
          [*common, f'--job={job}', f'--task={task}'],
          on_terminal=job == 'trainer_client',
        )
      os.environ[WORKER_PIDS] = ' '.join(
        str(worker.pid) for worker in self._training.values()
      )

  def _start_evaluation(self, job: str) -> None:
    self._evaluation[job] = self._start(
      job,
      [
        f'--job={job}',
        '--run_locally=cpu',
        '--mode=sync',
        f'--worker_split_size={self._settings.evaluation_devices}',
        f'--worker_cpus={self._settings.evaluation_devices}',
      ],
      on_terminal=True,
    )

  # -- Following.

  def _hangs(self, process: child.Child) -> str:
    silence = process.silent_seconds()
    if silence > self._settings.hang_seconds:
      return f'{process.name} hangs (silent for {silence:.0f} s)'
    return ''

  def _follow_training(self) -> tuple[int | None, str]:
    """Returns the exit status if it is over, and what is wrong, '' if nothing.

    A worker that died comes before the trainer, which dies of that. A mistake
    of the user would be there again: no restart.
    """
    problem = ''
    for process in self._training.values():
      if process.poll():
        problem = problem or self._hangs(process)
      elif process.status == _REFUSED and process.name != 'trainer':
        return self._refused(process), ''
      elif process.name != 'trainer' and process.status:
        problem = problem or f'{process.name} {process.describe_end()}'
    trainer = self._training['trainer']
    if trainer.status is None:
      return None, problem
    if trainer.status == _WORKER_LOST or trainer.status < 0:
      return None, problem or f'trainer {trainer.describe_end()}'
    return trainer.status, problem

  def _refused(self, process: child.Child) -> int:
    """Sees that the user is told what `process` refused; returns the status."""
    trainer = self._training['trainer']
    self._wait([trainer], _REFUSAL_SECONDS)
    if trainer.status != _REFUSED:
      log = pathlib.Path(process.log_path).read_text(errors='replace')
      reason = ([''] + [line for line in log.splitlines() if line.strip()])[-1]
      self._say(f'{process.name} {process.describe_end()}: {reason}')
    return _REFUSED

  def _follow_evaluation(self) -> None:
    for job, process in list(self._evaluation.items()):
      if process.poll():
        problem = self._hangs(process)
      elif (process.status or 0) < 0:
        problem = f'{job} {process.describe_end()}'
      else:
        if process.status:
          # Its own fault, so it would do that again.
          self._say(f'{job} {process.describe_end()}; continuing without it.')
        self._end([process])
        del self._evaluation[job]
        continue
      if problem:
        self._end([process])
        self._say(f'{problem}; it starts again.')
        self._start_evaluation(job)

  # -- Ending.

  def _wait(self, processes: Iterable[child.Child], seconds: float) -> None:
    """Waits until all have ended, or the time is over."""
    end = time.monotonic() + seconds
    while _running(processes) and time.monotonic() < end:
      time.sleep(_POLL_SECONDS)

  def _finish(self) -> None:
    """After the training: waits for those that look at its last checkpoint."""
    controller = self._training.get('controller')
    self._wait([controller] if controller else [], _GRACE_SECONDS)
    while _running(self._evaluation.values()):
      time.sleep(_POLL_SECONDS)
      self._follow_evaluation()

  def _interrupt_trainer(self) -> None:
    trainer = self._training.get('trainer')
    if trainer:
      trainer.signal(signal.SIGINT)
      self._wait([trainer], _GRACE_SECONDS)

  def _end(self, processes: Iterable[child.Child]) -> None:
    for process in processes:
      process.kill()
      before = self._peaks.get(process.name, 0.0)
      self._peaks[process.name] = max(before, process.own_peak_mib)

  def _report_memory(self) -> None:
    if self._peaks:
      peaks = ', '.join(f'{n} {mib:.0f}' for n, mib in self._peaks.items())
      self._say(f'Peak memory in MiB, without what imports take: {peaks}.')
